"""Joins a scope, or makes it: the one place where a process becomes contained.

On the hot path of ``run``: builtin modules only. Joining is a few system calls on cgroupfs; only
making a scope asks systemd.

What can go wrong between looking and joining, and what is done about it:

- *Someone stops the scope.* A joiner holds a shared lock on the scope's directory, a stop takes
  it alone to mark the record; a marked scope is not joined.
- *systemd finds the scope empty and forgets it while we join.* The directory then stays, with a
  process that no unit owns. So a scope is joined only beside a member that was alive before and
  after; else systemd is asked, and a dead scope is left again and made anew.
- *Its maker has not written the record yet.* Then we wait; without a record nothing is joined.
"""

import fcntl
import posix
import time

from scopekeeper import records
from scopekeeper.launch.member import GONE, Member, Warnings, enter
from scopekeeper.launch.place import Caller, Place, attribute, place_of, read, start_time

_PAUSE = 0.001
_PATIENCE = {"foreign": 5.0, "stopping": 150.0}
"""Seconds to wait for a record that its maker has yet to write, and for a stop by somebody else
(systemd's own may take 90); for all else:"""
_SETUP_SECONDS = 15.0
_HEAL_SECONDS = 1.0

JOINED, ABSENT, WAIT = "joined", "absent", "wait"


class OtherOwnerError(Exception):
    """The scope ends with another gateway's unit; this launch needs a scope of its own."""


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
        outcome, reason = _join(directory, member, place, caller, warnings)
        if outcome == JOINED:
            break
        waited = time.monotonic() - began
        if outcome == ABSENT or (reason == "empty" and waited > _HEAL_SECONDS):
            if place.manager:
                from scopekeeper.launch.unit import create
            else:
                from scopekeeper.launch.folder import create
            if create(directory, member, place, warnings):
                break
        elif reason == "stopping":
            _finish_stale_stop(directory)
        if waited > _PATIENCE.get(reason, _SETUP_SECONDS):
            raise _gave_up(directory, member.unit, reason, waited)
        time.sleep(_PAUSE if waited < 0.1 else 10 * _PAUSE)
    if member.request.member_limits:
        from scopekeeper.launch.limits import limit_member

        limit_member(directory, member.leaf, member.request.member_limits, warnings)
    return directory


def _join(
    directory: str, member: Member, place: Place, caller: Caller, warnings: Warnings
) -> tuple[str, str]:
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
            # a folder of ours without a record, and empty: its maker died before it wrote one
            return (WAIT, "foreign") if place.manager or _is_used(directory) else (ABSENT, "")
        _check(raw, directory, member, warnings)
        if b"\nSTATE=" in raw:
            return WAIT, "stopping"
        neighbour = _living_leaf(directory, member.request.name)
        if not neighbour:
            return _nobody(fd, directory, place)
        if not enter(directory, member, place):
            return WAIT, "gone"
        if place.manager and "populated 1" not in read(f"{neighbour}/cgroup.events"):
            from scopekeeper.launch.unit import confirm

            if not confirm(directory, member, place, caller):
                return WAIT, "gone"
    except OSError as error:
        if error.errno in GONE:
            return WAIT, "gone"
        raise
    else:
        return JOINED, ""
    finally:
        posix.close(fd)  # which gives the lock back


def _nobody(fd: int, directory: str, place: Place) -> tuple[str, str]:
    """Decide what to do about a scope with our record and no living member."""
    if "populated 1" in read(f"{directory}/cgroup.events"):
        return WAIT, "setup"  # its maker is on the way to a leaf
    if place.manager:
        return WAIT, "empty"  # systemd is about to remove it
    from scopekeeper.launch.folder import remove_empty

    return (ABSENT, "") if remove_empty(fd, directory) else (WAIT, "setup")


def _is_used(directory: str) -> bool:
    """Tell whether there is a process or a folder inside."""
    if read(f"{directory}/cgroup.procs"):
        return True
    return any(entry.startswith("m-") for entry in posix.listdir(directory))


def _finish_stale_stop(directory: str) -> None:
    """Bring a stop to its end whose own process was killed; leave one alone that goes on."""
    try:
        raw = attribute(directory)
        fields = records.loads(raw or b"")
        if start_time(fields["STOPPER_PID"]) == fields["STOPPER_START"]:
            return
    except FileNotFoundError as error:
        if error.filename == directory:
            return  # the scope is gone; else its stopper is
    except (OSError, LookupError, records.RecordError):
        return
    from scopekeeper.stop import finish

    finish(directory)


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


def _gave_up(directory: str, unit: str, reason: str, waited: float) -> Exception:
    if reason == "foreign":
        return _foreign(
            f"{unit} exists and has no record of ours; somebody else made it",
            "it is left alone; choose another --run, or look with: systemctl status",
        )
    told = {
        "stopping": "is still being stopped",
        "setup": "has no living member yet",
        "": "is known to systemd, but its cgroup is not there",
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
