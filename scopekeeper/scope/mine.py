"""The owners that the caller's launches record: how a caller finds its own scopes."""

import os
from collections.abc import Iterator

from scopekeeper.errors import UsageError
from scopekeeper.kernel import proc
from scopekeeper.scope.owner import find_owner
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.selection import Own
from scopekeeper.systemd.units import manager_uid


def find_own(caller: Caller, client: int = 0) -> Own:
    """Return the owners that launches by the caller record; raises UsageError.

    client is the pid of the gateway, by default the caller's parent.

    First the owner of a launch made now: SCOPEKEEPER_OWNER counts, and a command inside a member
    has that member's owner. Then the caller's parent and its ancestors up to the leader of their
    process group, so that a gateway is found from its hook scripts too. An interactive shell leads
    a group of its own, so a gateway does not own what that shell starts beside it.
    """
    try:
        owner = find_owner(caller, os.environ.get("SCOPEKEEPER_OWNER", ""), str(client or ""))
    except ValueError as error:
        raise UsageError(str(error), "correct SCOPEKEEPER_OWNER, or unset it") from None
    processes = set(_parents(client or os.getppid() or 1))
    if owner.fields.get("OWNER_START"):
        processes.add((int(owner.fields["OWNER_PID"]), int(owner.fields["OWNER_START"])))
    return Own(
        namespaces=owner.fields["NAMESPACES"],
        unit=owner.fields.get("OWNER_UNIT", ""),
        manager=manager_uid(owner.unit_path),
        processes=frozenset(processes),
    )


def _parents(pid: int) -> Iterator[tuple[int, int]]:
    """Yield a process and its ancestors up to the leader of its process group, without init."""
    while pid > 0:
        try:
            stat = proc.stat_of(pid)
            if stat is None or proc.cgroup_of(pid).endswith("/init.scope"):
                return
        except (OSError, LookupError):
            return
        yield pid, stat.start_time
        if pid == stat.group:
            return
        pid = stat.parent
