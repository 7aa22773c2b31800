"""The owner of a launch. On the hot path of ``run``: builtin modules only."""

import posix

from scopekeeper.kernel.proc import boot_id, cgroup_of, namespaces, start_time
from scopekeeper.scope.placement import Caller
from scopekeeper.systemd.units import epoch_of, unit_at


class LaunchOwner:
    """The owner of a member: a service (its unit and epoch), else a process.

    A service that has ended already still owns what it left behind, so that it is found.
    """

    __slots__ = ("fields", "has_ended", "label", "unit", "unit_path")

    def __init__(self, fields: dict[str, str], *, has_ended: bool = False) -> None:
        self.fields = fields
        self.has_ended = has_ended
        self.unit = fields.get("OWNER_UNIT", "")
        self.unit_path = fields.get("OWNER_CGROUP", "")
        self.label = self.unit or f"pid-{fields['OWNER_PID']}"


def find_owner(caller: Caller, named: str = "", parent: str = "") -> LaunchOwner:
    """Return the owner of what the caller starts; named is the pid of a process to own it.

    Otherwise it is the owner of the enclosing member, the service that the caller runs in, or the
    process with the pid in parent (default: the caller's parent). Raises ValueError if there is no
    such process.
    """
    fields = {
        "BOOT": boot_id(),
        "NAMESPACES": namespaces(),
    }
    if named:
        return LaunchOwner(fields | _process(named))
    if caller.enclosing is not None:  # a nested run has its launcher's owner
        inherited = {k: v for k, v in caller.enclosing.items() if k.startswith("OWNER_")}
        if inherited:
            return LaunchOwner(fields | inherited)
    # a parent outside of our PID namespace reads as 0: then the namespace's first process owns it
    parent = parent or str(posix.getppid() or 1)
    path = caller.unit_path()
    if path:
        epoch = epoch_of(caller.mount, path)
        if epoch or _has_gone(parent):
            fields["OWNER_UNIT"] = unit_at(path)
            fields["OWNER_EPOCH"] = epoch or "ended"
            fields["OWNER_CGROUP"] = path
            return LaunchOwner(fields, has_ended=not epoch)
    return LaunchOwner(fields | _process(parent))


def _has_gone(parent: str) -> bool:
    """Return whether parent is systemd: the caller's own parent has ended."""
    try:
        return cgroup_of(parent).endswith("/init.scope")
    except (OSError, LookupError):
        return False


def _process(pid: str) -> dict[str, str]:
    if not pid.isdigit():
        raise ValueError(f"--owner {pid}: name the process by its pid")
    try:
        return {"OWNER_PID": pid, "OWNER_START": start_time(pid)}
    except OSError:
        raise ValueError(f"--owner {pid}: there is no such process") from None
