"""Which owners the caller of this program is: what it launched carries one of them."""

import os
from collections.abc import Iterator

from scopekeeper.errors import UsageError
from scopekeeper.kernel import proc
from scopekeeper.scope.owner import find_owner
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.selection import Own
from scopekeeper.systemd.units import manager_uid


def find_own(caller: Caller) -> Own:
    """Return the owners that launches by the caller record; raises UsageError.

    The owner of a launch made now (so SCOPEKEEPER_OWNER counts, and a command inside a member has
    the owner of that member); and the caller's parent with the parents of that up to the leader of
    their process group, so that a gateway is found from its hook scripts too. An interactive shell
    leads a group of its own: what it started beside the gateway is not the gateway's.
    """
    try:
        owner = find_owner(caller, os.environ.get("SCOPEKEEPER_OWNER", ""))
    except ValueError as error:
        raise UsageError(str(error), "correct SCOPEKEEPER_OWNER, or unset it") from None
    processes = set(_parents(os.getppid() or 1))
    if owner.fields.get("OWNER_PID"):
        processes.add((int(owner.fields["OWNER_PID"]), int(owner.fields["OWNER_START"])))
    return Own(
        namespaces=owner.fields["NAMESPACES"],
        unit=owner.unit,
        manager=manager_uid(owner.unit_path),
        processes=frozenset(processes),
    )


def _parents(pid: int) -> Iterator[tuple[int, int]]:
    """Yield a process and its parents, up to the leader of a process group; not an init."""
    while pid > 0:
        try:
            # proc_pid_stat(5): after the name, state ppid pgrp ... and starttime as field 22
            stat = proc.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if proc.cgroup_of(str(pid)).endswith("/init.scope"):
                return
        except (OSError, LookupError):
            return
        parent, group = int(stat[1]), int(stat[2])
        yield pid, int(stat[19])
        if pid == group:
            return
        pid = parent
