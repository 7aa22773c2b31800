"""Joins a scope, or makes it: the one place where a process becomes contained.

On the hot path of ``run``: builtin modules only. Joining is a few system calls on cgroupfs; only
making a scope asks systemd.

What can go wrong between looking and joining, and what is done about it:

- *Someone stops the scope.* A joiner holds a shared lock on the scope's directory, a stop takes
  it alone to mark the record; a marked scope is not joined.
- *systemd finds the scope empty and forgets it while we join.* The directory then stays, with a
  process that no unit owns. So a scope is joined only beside a member that was alive before and
  after; else systemd is asked, and made to start the scope again around us.
- *Its maker has not written the record yet.* Then we wait; without a record nothing is joined.
"""

import errno
import fcntl
import posix
import time

from scopekeeper import names, records
from scopekeeper.launch.place import (
    SLICE,
    Caller,
    Owner,
    Place,
    attribute,
    exists,
    place_of,
    read,
    start_time,
    write,
)  # fmt: skip
from scopekeeper.launch.request import Request

_XATTR_CREATE = 1
_GONE = (errno.ENOENT, errno.ENODEV)  # a removed cgroup answers either
_SETUP_SECONDS = 10.0
"""How long a scope may be without a record, or empty but there, before that is an error."""
_STOP_SECONDS = 150.0
"""How long to wait for a stop of the scope by somebody else: systemd's 90 s and some room."""
_HEAL_SECONDS = 1.0
_PAUSE = 0.001

JOINED, ABSENT, WAIT = "joined", "absent", "wait"


class OtherOwnerError(Exception):
    """The scope ends with another gateway's unit; this launch needs a scope of its own."""


class Member:
    """The process that is to be contained, as it will stand in the records."""

    __slots__ = ("leaf", "owner", "record", "request", "unit")

    def __init__(self, request: Request, owner: Owner) -> None:
        self.request = request
        self.owner = owner
        self.unit = names.unit_name(request.session, request.lane, request.run)
        self.leaf = ""
        self.record = {
            "NAME": request.name,
            "PID": str(posix.getpid()),
            "START": start_time("self"),
            "KIND": request.kind,
            "LIFETIME": request.lifetime,
            "STARTED": str(time.time_ns() // 1000),
            "BOOTTIME": str(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000),
            **owner.fields,
        }

    def new_leaf(self) -> str:
        """Choose a new id for the member and return the name of its leaf."""
        member_id = posix.urandom(4).hex()
        self.record["ID"] = member_id
        self.leaf = names.leaf_name(self.request.name, member_id)
        return self.leaf

    def scope_record(self, bound_to: str) -> bytes:
        """Return the record of the scope that this member makes."""
        request = self.request
        fields = {
            "SESSION": request.session,
            "LANE": request.lane,
            "RUN": request.run,
            "SESSION_ID": request.session_id,
            "KIND": request.kind,
            "LIFETIME": request.lifetime,
            "CREATED": self.record["STARTED"],
            "BOOTTIME": self.record["BOOTTIME"],
            "BOUND": bound_to,
            **self.owner.fields,
        }
        for key, value in (request.durations | request.limits).items():
            fields[key.upper()] = str(value)
        return records.dumps(fields)


class Warnings(list[str]):
    """What the caller should be told although the launch goes on."""


def contain(member: Member, caller: Caller, place: Place, warnings: Warnings) -> str:
    """Put this process into its leaf and return the scope's directory.

    Raises OtherOwnerError, ScopekeeperError, OSError; then the process may be anywhere and must
    not run the command.
    """
    if caller.scope_directory.endswith("/" + member.unit):
        place = place_of(caller)
    directory = f"{place.base}/{member.unit}"
    began = time.monotonic()
    while True:
        outcome, reason = _join(directory, member, place, warnings)
        if outcome == ABSENT or (
            reason == "empty" and place.manager and time.monotonic() - began > _HEAL_SECONDS
        ):
            outcome = _create(directory, member, place, warnings)
            reason = "taken"
        if outcome == JOINED:
            if member.request.member_limits:
                _limit_member(directory, member, warnings)
            return directory
        waited = time.monotonic() - began
        if waited > (_STOP_SECONDS if reason == "stopping" else _SETUP_SECONDS):
            raise _gave_up(directory, member.unit, reason, waited)
        time.sleep(_PAUSE if waited < 0.1 else 10 * _PAUSE)


def _join(directory: str, member: Member, place: Place, warnings: Warnings) -> tuple[str, str]:
    """Try to become a member of the scope once; returns the outcome and why to wait."""
    try:
        fd = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return ABSENT, ""
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return WAIT, "stopping"
        raw = attribute(fd)  # type: ignore[arg-type]
        if raw is None:
            return (WAIT, "foreign") if place.manager or not _is_bare(directory) else (ABSENT, "")
        _check(raw, directory, member, warnings)
        if b"\nSTATE=" in raw:
            return _stopping(raw, directory)
        neighbour = _living_leaf(directory, member.request.name)
        if not neighbour:
            if place.manager:
                return WAIT, "empty" if "populated 0" in read(f"{directory}/cgroup.events") else ""
            return _renew(fd, directory)
        if not _enter(directory, member, place):
            return WAIT, ""
        if place.manager and "populated 1" not in read(f"{neighbour}/cgroup.events"):
            _confirm(directory, member, place)
    except OSError as error:
        if error.errno in _GONE:
            return WAIT, ""
        raise
    else:
        return JOINED, ""
    finally:
        posix.close(fd)  # which gives the lock back


def _check(raw: bytes, directory: str, member: Member, warnings: Warnings) -> None:
    """Make sure that the scope is the one that was meant; raises what to tell otherwise."""
    from_record = _read_record(raw, directory)
    request = member.request
    identity = (request.session, request.lane, request.run)
    if (from_record["SESSION"], from_record["LANE"], from_record.get("RUN", "")) != identity:
        raise _conflict(
            f"the scope {member.unit} belongs to another session whose name was cut to the same",
            "give one of them a --run",
        )
    bound = from_record.get("BOUND", "")
    if bound and (request.lifetime != "gateway" or member.owner.unit != bound):
        if not request.explicit_run and request.run != member.owner.label:
            raise OtherOwnerError(bound)
        raise _conflict(f"the scope {member.unit} ends with {bound}", "give this one another --run")
    for option, value in (request.limits | request.durations).items():
        if option != "grace" and from_record.get(option.upper()) != str(value):
            text = f"--{option.replace('_', '-')} has no effect: the scope exists, with " + (
                f"{from_record[option.upper()]}" if option.upper() in from_record else "none"
            )
            if text not in warnings:
                warnings.append(text)


def _read_record(raw: bytes, directory: str) -> dict[str, str]:
    try:
        fields = records.loads(raw)
        if "SESSION" in fields and "LANE" in fields:
            return fields
        reason = "the record is damaged: it has no session"
    except records.RecordError as error:
        reason = str(error)
    raise _foreign(f"{directory}: {reason}", "it is left alone; choose another --run")


def _is_bare(directory: str) -> bool:
    """Tell whether nothing was made inside: its maker died before it wrote the record."""
    if read(f"{directory}/cgroup.procs"):
        return False
    return not any(exists(f"{directory}/{name}/cgroup.procs") for name in posix.listdir(directory))


def _stopping(raw: bytes, directory: str) -> tuple[str, str]:
    """Wait for a stop to end; one whose process died is brought to its end here."""
    fields = records.loads(raw)
    try:
        alive = start_time(fields.get("STOPPER_PID", "0")) == fields.get("STOPPER_START")
    except (OSError, IndexError):
        alive = False
    if not alive:
        from scopekeeper.stop import finish

        finish(directory)
    return WAIT, "stopping"


def _living_leaf(directory: str, name: str) -> str:
    """Return a leaf with a living process; on the way, remove empty ones of the same name."""
    stale = f"m-{name}."
    found = ""
    for entry in posix.listdir(directory):
        if not entry.startswith("m-") or (found and not entry.startswith(stale)):
            continue
        leaf = f"{directory}/{entry}"
        try:
            if "populated 1" in read(f"{leaf}/cgroup.events"):
                found = found or leaf
            elif entry.startswith(stale):
                posix.rmdir(leaf)  # one that is being entered right now makes its launcher retry
        except OSError:
            continue
    return found


def _enter(directory: str, member: Member, place: Place) -> bool:
    """Make the member's leaf and move in; False where the scope went away meanwhile."""
    leaf = member.new_leaf()
    path = f"{directory}/{leaf}"
    try:
        posix.mkdir(path, 0o755)
        posix.setxattr(path, records.ATTRIBUTE, records.dumps(member.record))
        try:
            write(f"{path}/cgroup.procs", "0")
        except PermissionError:
            # no cgroup above both is ours to write, as in a login session: the manager may
            if not place.manager:
                raise
            from scopekeeper.launch.manager import Manager

            with Manager(place) as manager:
                manager.attach(member.unit, leaf)
    except OSError as error:
        try:
            posix.rmdir(path)
        except OSError:
            pass
        if error.errno in _GONE:
            return False
        raise
    return True


def _confirm(directory: str, member: Member, place: Place) -> None:
    """Make sure that systemd still has the scope that we joined; start it around us if not."""
    from scopekeeper.launch.manager import CallError, Manager

    with Manager(place) as manager:
        while True:
            state = manager.unit_property(member.unit, "Unit", "ActiveState")
            if state == "active":
                return
            if state == "":
                try:
                    _start(manager, member, place)
                except CallError as error:
                    if error.name != "UnitExists":
                        raise
                else:
                    if _enter(directory, member, place):
                        return
            time.sleep(_PAUSE)
            if time.monotonic() > manager.deadline:
                raise _gave_up(directory, member.unit, "empty", 0)


def _renew(fd: int, directory: str) -> tuple[str, str]:
    """Remove a folder of ours in which nothing lives, so that it is made anew."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return WAIT, ""
    try:
        for entry in posix.listdir(directory):
            if entry.startswith("m-"):
                posix.rmdir(f"{directory}/{entry}")
        posix.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return WAIT, ""  # something lives in it after all
    return ABSENT, ""


def _create(directory: str, member: Member, place: Place, warnings: Warnings) -> str:
    """Make the scope and become its first member."""
    if place.manager:
        return _create_unit(directory, member, place, warnings)
    try:
        try:
            posix.mkdir(directory, 0o755)
        except FileExistsError:
            pass
        fd = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return WAIT
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        posix.setxattr(directory, records.ATTRIBUTE, member.scope_record(""), _XATTR_CREATE)
        _limit_folder(directory, place, member.request.limits, warnings)
        return JOINED if _enter(directory, member, place) else WAIT
    except OSError as error:
        if error.errno in (*_GONE, errno.EEXIST, errno.EAGAIN):
            return WAIT  # another launcher, or a stop, was faster
        raise
    finally:
        posix.close(fd)


def _create_unit(directory: str, member: Member, place: Place, warnings: Warnings) -> str:
    from scopekeeper.launch.manager import CallError, Manager

    with Manager(place) as manager:
        try:
            bound_to = _start(manager, member, place)
        except CallError as error:
            if error.name != "UnitExists":
                raise
            # Another launcher was faster, or it is on its way out; or it failed and holds its
            # name, which reset-failed ends (and which does nothing to a unit that is well).
            if not exists(directory):
                manager.reset_failed(member.unit)
            return WAIT
    posix.setxattr(directory, records.ATTRIBUTE, member.scope_record(bound_to))
    _warn_unlimited(directory, member.request.limits, warnings)
    return JOINED if _enter(directory, member, place) else WAIT


_PROPERTIES = {
    "memory_max": "MemoryMax",
    "memory_high": "MemoryHigh",
    "tasks_max": "TasksMax",
    "cpu_weight": "CPUWeight",
    "ttl": "RuntimeMaxUSec",
    "grace": "TimeoutStopUSec",
}
_FILES = {
    "memory_max": ("memory", "memory.max"),
    "memory_high": ("memory", "memory.high"),
    "tasks_max": ("pids", "pids.max"),
    "cpu_weight": ("cpu", "cpu.weight"),
    "member_memory_max": ("memory", "memory.max"),
    "member_tasks_max": ("pids", "pids.max"),
}
_INFINITY = 2**64 - 1


def _start(manager, member: Member, place: Place) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Have the scope started around us; returns the unit that it is bound to, or ''."""
    from scopekeeper.launch.manager import scope_properties

    request, owner = member.request, member.owner
    bound_to = ""
    if request.lifetime == "gateway" and owner.unit and place.manages(owner.unit_path):
        bound_to = owner.unit
    settings = {
        _PROPERTIES[name]: _INFINITY if value < 0 else value
        for name, value in (request.limits | request.durations).items()
    }
    session = "".join(c if c.isprintable() else "?" for c in request.session)
    description = f"scopekeeper: {session[:120]}, lane {request.lane[:60]}"
    manager.start_scope(member.unit, scope_properties(description, SLICE, bound_to, settings))
    return bound_to


def _limit_folder(directory: str, place: Place, limits: dict[str, int], warnings: Warnings) -> None:
    """Set limits where no manager does it."""
    for option, value in limits.items():
        controller, file = _FILES[option]
        if _enable(place.base, controller):
            write(f"{directory}/{file}", "max" if value < 0 else str(value))
    _warn_unlimited(directory, limits, warnings)


def _warn_unlimited(directory: str, limits: dict[str, int], warnings: Warnings) -> None:
    for option in limits:
        controller, file = _FILES[option]
        if not exists(f"{directory}/{file}"):
            warnings.append(
                f"--{option.replace('_', '-')} has no effect: the {controller} controller is not "
                f"delegated here; `scopekeeper doctor` says how to get it"
            )


def _limit_member(directory: str, member: Member, warnings: Warnings) -> None:
    leaf = f"{directory}/{member.leaf}"
    for option, value in member.request.member_limits.items():
        controller, file = _FILES[option]
        if _enable(directory, controller):
            write(f"{leaf}/{file}", "max" if value < 0 else str(value))
            if controller == "memory":
                write(f"{leaf}/memory.oom.group", "1")  # a member dies whole, its siblings live
    _warn_unlimited(leaf, member.request.member_limits, warnings)


def _enable(directory: str, controller: str) -> bool:
    """Turn a controller on for the children of a cgroup; False where that cannot be."""
    if controller in read(f"{directory}/cgroup.subtree_control").split():
        return True
    if controller not in read(f"{directory}/cgroup.controllers").split():
        return False
    for _ in range(200):
        try:
            write(f"{directory}/cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            if error.errno != errno.EBUSY:
                return False
            time.sleep(_PAUSE)  # another launcher is on its way through the scope to its leaf
        else:
            return True
    return False


def _gave_up(directory: str, unit: str, reason: str, waited: float) -> Exception:
    if reason == "foreign":
        return _foreign(
            f"{unit} exists and has no record of ours; somebody else made it",
            "it is left alone; choose another --run, or look with: systemctl status",
        )
    told = {
        "stopping": "is still being stopped",
        "taken": "is known to systemd, but its cgroup is not there",
    }.get(reason, "is empty, but does not go away")
    return _conflict(
        f"{unit} {told} after {waited:.0f} s",
        f"look with: scopekeeper ls; its cgroup is {directory}",
    )


def _conflict(message: str, hint: str) -> Exception:
    from scopekeeper.errors import ConflictError

    return ConflictError(message, hint)


def _foreign(message: str, hint: str) -> Exception:
    from scopekeeper.errors import ForeignError

    return ForeignError(message, hint)
