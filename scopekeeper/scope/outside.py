"""Find the processes that are in no scope, without a look at each of those that are in one."""

from collections.abc import Iterable

from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.scope import names

_MOST = 10_000
"""Cgroups that are looked at; of more, all processes are."""


def pids() -> Iterable[int]:
    """Return the pid of each process that is in no scope of ours, maybe with others.

    Where a cgroup cannot be read, or there are too many, these are all processes.
    """
    try:
        mount = proc.mount_point()
        found = _walk(mount) if proc.exists(mount + proc.cgroup_of()) else None
    except (OSError, LookupError):
        found = None
    return proc.pids() if found is None else found


def _walk(mount: str) -> list[int] | None:
    """Return the pids in all cgroups but those of scopes; None if one of them cannot be read.

    Raises OSError.
    """
    found: dict[int, None] = {}
    waiting = [mount]
    for directory in waiting:  # grows in the loop
        found |= dict.fromkeys(filter(None, cgroupfs.own_processes(directory)))
        inside = [x for x in cgroupfs.children(directory) if names.parse_unit(x) is None]
        if len(waiting) + len(inside) > _MOST or len(directory) > cgroupfs.LONGEST:
            return None
        waiting += [f"{directory}/{each}" for each in inside]
    return list(found)
