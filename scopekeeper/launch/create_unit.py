"""Makes a scope around this process as a transient unit of a systemd manager."""

import posix
import time

from scopekeeper.errors import READ_ONLY, ForeignError, ManagerError, UnavailableError
from scopekeeper.kernel.proc import exists, is_read_only, read
from scopekeeper.launch import start_keeper
from scopekeeper.launch.member import GONE, NewMember, enter
from scopekeeper.scope import names
from scopekeeper.scope.owner import LaunchOwner
from scopekeeper.scope.placement import Caller, Place
from scopekeeper.short_names import short
from scopekeeper.systemd.manager import CallError, Manager, scope_properties
from scopekeeper.systemd.units import KEEPER, SLICE

_INFINITY = 2**64 - 1
"""Infinity in a property of type t."""
_GRACE = 5_000_000
"""Microseconds that systemd's own stop waits, unless the launch says; its own default is 90 s."""
_PROPERTIES = {
    "memory_max": "MemoryMax",
    "memory_high": "MemoryHigh",
    "memory_swap_max": "MemorySwapMax",
    "tasks_max": "TasksMax",
    "cpu_weight": "CPUWeight",
    "ttl": "RuntimeMaxUSec",
    "grace": "TimeoutStopUSec",
}


def create(directory: str, member: NewMember, place: Place, warnings: list[str]) -> bool:
    """Make the scope and become its first member; return False if another launch was faster.

    Raises UnavailableError before systemd moves us where we could neither write the record nor
    leave again.
    """
    if is_read_only(place.mount):
        raise UnavailableError(f"{place.mount} is read-only here", READ_ONLY)
    with Manager(place.manager, place.uid) as manager:
        try:
            bound_to = _start(manager, member, place)
        except CallError as error:
            if error.name != "UnitExists":
                raise
            # Another launch was faster, or the unit is stopping; or it failed and keeps its name,
            # which reset-failed frees (it does nothing to a unit that did not fail).
            if not exists(directory):
                _refuse_foreign(manager, member.unit)
                manager.reset_failed(member.unit)
            return False
    member.record_scope(directory, place, bound_to)
    if member.request.limits:
        from scopekeeper.launch.limits import warn_unlimited

        warn_unlimited(directory, member.request.limits, warnings)
    return enter(directory, member, place)


def _refuse_foreign(manager: Manager, unit: str) -> None:
    """Raise ForeignError if a unit of our name is in another slice, where we would not find it."""
    slice_name = manager.unit_property(unit, "Scope", "Slice")
    if slice_name not in ("", SLICE):
        raise ForeignError(
            f"{unit} exists in {slice_name}; somebody else made it",
            "it is left alone; choose another --run",
        )


def confirm(directory: str, member: NewMember, place: Place, caller: Caller) -> None:
    """Make sure that systemd still has the scope that we joined; otherwise leave it.

    A scope that systemd found empty just before we joined is dead, and its unit cannot start again
    while we are in its cgroup. Raises FileNotFoundError then.
    """
    with Manager(place.manager, place.uid) as manager:
        while True:
            state = manager.unit_property(member.unit, "Unit", "ActiveState")
            if state == "active":
                return
            if state in ("", "inactive", "failed"):
                _leave(manager, directory, member, caller)
                raise FileNotFoundError(GONE[0], "systemd has forgotten it", directory)
            if time.monotonic() > manager.deadline:
                raise ManagerError(f"{member.unit} stays {state}")
            time.sleep(0.02)


def _leave(manager: Manager, directory: str, member: NewMember, caller: Caller) -> None:
    """Return to the cgroup that we came from, or to a new scope if that one refuses processes."""
    if not member.leave(f"{directory}/{member.leaf}", caller):
        aside = names.unit_name("scopekeeper", "launch", posix.urandom(4).hex())
        manager.start_scope(aside, scope_properties("scopekeeper: a launch", SLICE, "", {}))
    try:
        posix.rmdir(f"{directory}/{member.leaf}")
    except OSError:
        pass
    manager.reset_failed(member.unit)


def _has_same_pids() -> bool:
    """Return whether systemd shares our PID namespace; False in a service that cannot see PID 1."""
    try:
        return read("/proc/1/comm") == "systemd\n"
    except OSError:
        return False


def _to_bind(manager: Manager, owner: LaunchOwner) -> str:
    """Return the service with which systemd shall end the scope; '' if none.

    A guest outlives a service that leaves its other processes alone: cron's jobs stay when cron is
    restarted.
    """
    if owner.has_ended:
        return ""
    if owner.is_guest:
        mode = manager.service_setting(owner.unit, "KillMode")
        if mode not in ("control-group", "mixed"):
            return ""
    return owner.unit


def _start(manager: Manager, member: NewMember, place: Place) -> str:
    """Start the scope around this process; return the unit that it is bound to, or ''."""
    request, owner = member.request, member.owner
    bound_to = ""
    if request.lifetime == "gateway" and owner.unit and place.manages(owner.unit_path):
        bound_to = _to_bind(manager, owner)
    settings = {
        _PROPERTIES[name]: _INFINITY if value < 0 else value
        for name, value in ({"grace": _GRACE} | request.limits | request.durations).items()
    }
    # systemd writes it into the journal, beside the unit's name
    text = f"scopekeeper: {short(request.session)}, lane {short(request.lane)}"
    description = "".join(char if char.isprintable() else "?" for char in text)
    pid = posix.getpid() if _has_same_pids() else 0
    properties = scope_properties(description, SLICE, bound_to, settings, pid)
    has_keeper = start_keeper.is_installed(place.manager, place.uid)
    if has_keeper:
        properties.append(("Wants", ("as", [KEEPER])))
    if not bound_to:
        manager.start_scope(member.unit, properties)
        return ""
    # BindsTo= has systemd also start the service, which may have ended a moment ago. Without what
    # the scope requires, systemd stops the scope at once instead (seen with 252, 254, 257, 262).
    if not exists(place.base):
        manager.start_if_possible(SLICE)
    if has_keeper and not start_keeper.is_active(place.manager, place.uid):
        manager.start_if_possible(KEEPER)
    manager.start_scope(member.unit, properties, "ignore-requirements")
    return bound_to
