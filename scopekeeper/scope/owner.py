"""The owner of a launch. On the hot path of ``run``: builtin modules only."""

import posix

from scopekeeper.kernel.proc import boot_id, exists, namespaces, stat_of
from scopekeeper.scope.client import is_guest, is_systemd, lineage, program_of
from scopekeeper.scope.placement import Caller
from scopekeeper.systemd.units import epoch_of, precedes_life, unit_at


class LaunchOwner:
    """The owner of a member: a service (its unit and epoch), else a process.

    A service that has ended already still owns what it left behind, so that it is found.
    """

    __slots__ = ("fields", "has_ended", "label", "unit", "unit_path")

    def __init__(self, fields: dict[str, str], *, has_ended: bool = False) -> None:
        self.fields = fields
        self.has_ended = has_ended
        """Whether the service has ended."""
        self.unit = fields.get("OWNER_UNIT") or fields.get("OUTER_UNIT", "")
        """The service that is the owner, or in which the owner runs; '' if there is none."""
        self.unit_path = fields.get("OWNER_CGROUP") or fields.get("OUTER_CGROUP", "")
        self.label = fields.get("OWNER_UNIT") or process_label(
            fields.get("OWNER_NAME", ""), fields["OWNER_PID"]
        )
        """Its name where a session or a run is named after it."""

    @property
    def is_guest(self) -> bool:
        """Whether the owner is a process that is not part of the service in which it runs."""
        return "OUTER_UNIT" in self.fields


def process_label(name: str, pid: str) -> str:
    """Return the name of a process as an owner: ``cursor-257``, ``pid-257`` if it has no name.

    A shell takes it as it is: the brackets of ``cursor[257]`` are a pattern to bash and zsh. So
    characters other than letters, digits, ``.``, ``_`` and ``-`` become ``_``, and also a ``-``
    at the beginning, which would make it an option.
    """
    if not name.isalnum():
        name = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)
        if name[:1] == "-":
            name = f"_{name[1:]}"
    return f"{name or 'pid'}-{pid}"


def find_owner(caller: Caller, named: str = "", client: str = "", inner: str = "") -> LaunchOwner:
    """Return the owner of what the caller starts; named is the pid of a process to own it.

    Otherwise it is the process with the pid in inner, which runs in the enclosing member, the owner
    of that member, the service that the client is part of, or the client: the process with the pid
    in client (default: the caller's parent). Raises ValueError if there is no such process.
    """
    fields = {
        "BOOT": boot_id(),
        "NAMESPACES": namespaces(),
    }
    if named:
        return LaunchOwner(fields | _process(named))
    if caller.enclosing is not None:  # a nested run has its launcher's owner
        inherited = {k: v for k, v in caller.enclosing.items() if k[:6] in ("OWNER_", "OUTER_")}
        if inherited:
            return LaunchOwner(fields | (_within(inherited, inner) if inner else inherited))
    # a parent outside of our PID namespace reads as 0: then the namespace's first process owns it
    client = client or str(posix.getppid() or 1)
    path = caller.unit_path()
    if path:
        epoch = epoch_of(caller.mount, path)
        lost = _is_lost(client)
        chain = lineage(str(posix.getpid()) if lost else client, path)
        # what an earlier life left (KillMode=process) is in the cgroup of the next one
        is_earlier = bool(epoch) and precedes_life(chain[-1], path, epoch)
        if is_earlier and lost:
            epoch = ""
        if epoch and not lost and (is_earlier or is_guest(chain)):
            fields |= {"OUTER_UNIT": unit_at(path), "OUTER_CGROUP": path}
            return LaunchOwner(fields | _process(client))
        if epoch or lost:
            fields["OWNER_UNIT"] = unit_at(path)
            fields["OWNER_EPOCH"] = epoch or "ended"
            fields["OWNER_CGROUP"] = path
            return LaunchOwner(fields, has_ended=not epoch)
    return LaunchOwner(fields | _process(client))


def _within(enclosing: dict[str, str], pid: str) -> dict[str, str]:
    """Return the fields of a process in a member; enclosing are those of the member's owner."""
    try:
        fields = _process(pid)
    except ValueError:
        return enclosing  # it has just ended
    unit = enclosing.get("OWNER_UNIT") or enclosing.get("OUTER_UNIT")
    if unit:
        path = enclosing.get("OWNER_CGROUP") or enclosing.get("OUTER_CGROUP", "")
        fields |= {"OUTER_UNIT": unit, "OUTER_CGROUP": path}
    return fields


def _is_lost(client: str) -> bool:
    """Return whether the client is systemd: the caller's own parent has ended."""
    try:
        return is_systemd(client)
    except (OSError, LookupError):
        return client == "1" and exists("/run/systemd/system")  # hidden (ProtectProc=)


def _process(pid: str) -> dict[str, str]:
    """Return the fields of a process; without its start time if procfs hides it."""
    if not pid.isdigit():
        raise ValueError(f"--owner {pid}: name the process by its pid")
    try:
        stat = stat_of(pid)
    except OSError:
        return {"OWNER_PID": pid}
    if stat is None:
        raise ValueError(f"--owner {pid}: there is no such process")
    # the name is for people: it proves nothing, and a process can change it
    name = program_of(pid, stat.name)
    return {"OWNER_PID": pid, "OWNER_START": str(stat.start_time), "OWNER_NAME": name}
