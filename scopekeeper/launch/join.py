"""Joins a scope or makes it: the one place where a process becomes contained.

On the hot path of ``run``: builtin modules only. Joining is a few system calls on cgroupfs; only
making a scope asks systemd.

Three things can go wrong between looking and joining:

- *Someone stops the scope.* A launch that joins holds a shared lock on the scope's directory; a
  stop takes the exclusive lock to mark the record. A launch does not join a marked scope.
- *systemd finds the scope empty and forgets it while we join.* The directory then stays, with a
  process that no unit owns. So a launch joins only beside a member that is alive before and after
  and is itself sure of the scope. If that member has just ended, the launch asks systemd, leaves a
  dead scope and makes a new one. A member that is not sure yet has ``JOINING`` in its record.
- *The scope's maker has not written the record yet.* The launch waits; it joins no scope without
  a record.
"""

import fcntl
import posix
import time

from scopekeeper import launch
from scopekeeper.kernel.proc import attribute, open_lock, read, runs
from scopekeeper.launch.member import ABSENT, GONE, JOINED, WAIT, NewMember, enter
from scopekeeper.scope import names, records
from scopekeeper.scope.placement import Caller, Place, place_of

_PLACED = f"\nJOINING={records.PLACED}\n".encode()
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5


class OtherOwnerError(Exception):
    """The scope is bound to another gateway's unit; this launch needs its own scope."""


def contain(member: NewMember, caller: Caller, place: Place, warnings: list[str]) -> str:
    """Put this process into its leaf and return the scope's directory.

    Raises OtherOwnerError, ScopekeeperError, OSError; the process may then be in any cgroup and
    must not run the command.
    """
    place, directory = locate(member, caller, place)
    patience, ask_again, pause = None, 0.0, _FIRST_PAUSE
    while True:
        outcome, reason = join(directory, member, place, caller, warnings)
        if outcome == JOINED:
            break
        if outcome == ABSENT or (patience and patience.is_left_over(reason, place)):
            reason = reason or "taken"
            now = time.monotonic()
            if now >= ask_again:
                if place.manager:
                    launch.load_more()
                    from scopekeeper.launch.create_unit import create

                    if patience and outcome != ABSENT:
                        patience.have_it_removed(place)
                else:
                    from scopekeeper.launch.create_cgroup import create
                if create(directory, member, place, warnings):
                    break
                # systemd runs its jobs when no calls wait, so do not ask all the time; whether
                # another launch has made the scope shows without asking.
                pause = min(2 * pause, _LONGEST_PAUSE)
                ask_again = now + pause
        if patience is None:
            from scopekeeper.launch.waiting import Patience

            patience = Patience(directory)
        patience.wait(reason)
    if member.request.member_limits:
        from scopekeeper.launch.limits import limit_member

        limit_member(directory, member.leaf, member.request.member_limits, warnings)
    if member.request.oomd_preference:
        from scopekeeper.launch.oomd import make_candidate

        make_candidate(directory, member.leaf, member.request.oomd_preference, warnings)
    if member.request.oom_score:
        from scopekeeper.launch.oom_score import raise_to

        raise_to(member.request.oom_score, "self", warnings)
    return directory


def locate(member: NewMember, caller: Caller, place: Place) -> tuple[Place, str]:
    """Return the place of a member's scope and its directory; place is that of new scopes."""
    if caller.scope_directory.endswith("/" + member.unit):
        place = place_of(caller)
    return place, f"{place.base}/{member.unit}"


def join(
    directory: str, member: NewMember, place: Place, caller: Caller, warnings: list[str]
) -> tuple[str, str]:
    """Try once to join the scope; return the outcome and the reason to wait.

    Raises OtherOwnerError, ScopekeeperError, OSError.
    """
    try:
        fd = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return ABSENT, ""
    lock = -1
    try:
        lock = open_lock(fd)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return WAIT, "stopping"
        return _join(fd, lock, directory, member, place, caller, warnings)
    except OSError as error:
        if error.errno in GONE:
            return WAIT, "gone"
        raise
    finally:
        if lock >= 0:
            posix.close(lock)  # releases it
        posix.close(fd)


def _join(
    fd: int, lock: int, directory: str, member: NewMember, place: Place, caller: Caller,
    warnings: list[str],
) -> tuple[str, str]:  # fmt: skip
    """Join a scope whose directory is open and locked."""
    raw = attribute(fd, records.ATTRIBUTE)  # type: ignore[arg-type]
    if raw is None:
        from scopekeeper.launch.waiting import without_record

        return without_record(directory, place)
    _check(raw, directory, member, warnings)
    if b"\nSTATE=" in raw:
        return WAIT, "stopping"
    neighbour = _sure_leaf(directory, member.request.name)
    if not neighbour:
        from scopekeeper.launch.waiting import without_members

        return without_members(lock, directory, place)
    unsure = bool(place.manager) or member.always_signs
    if not enter(directory, member, place, unsure=unsure):
        return WAIT, "gone"
    # a plain cgroup stays while a process is inside; systemd may have forgotten its scope
    if place.manager and not _is_surely_alive(neighbour):
        from scopekeeper.launch.create_unit import confirm

        confirm(directory, member, place, caller)
    if unsure:
        member.sign(directory)
    return JOINED, ""


def _check(raw: bytes, directory: str, member: NewMember, warnings: list[str]) -> None:
    """Raise an error if the scope has another identity, owner or record; warn of other limits."""
    from_record = _read_record(raw, directory)
    request = member.request
    identity = (request.session, request.lane, request.run)
    said = (from_record["SESSION"], from_record["LANE"], from_record.get("RUN", ""))
    if said != identity:
        from scopekeeper.launch.waiting import refuse_identity

        refuse_identity(directory, member.unit, said)
    member.scope_born = from_record.get("BOOTTIME", "")
    member.scope_ttl = from_record.get("TTL", "")
    bound = from_record.get("BOUND", "")
    if bound and (request.lifetime != "gateway" or member.owner.unit != bound):
        if not request.explicit_run and request.run != request.run_beside(member.owner.label):
            raise OtherOwnerError(bound)
        from scopekeeper.errors import ConflictError

        raise ConflictError(
            f"the scope {member.unit} ends with {bound}", "give this one another --run"
        )
    if "session_id" in request.asked and request.session_id != from_record.get("SESSION_ID", ""):
        text = "--session-id has no effect: the scope exists, with another one; give another --run"
        if text not in warnings:
            warnings.append(text)
    for option, value in (request.limits | request.durations).items():
        if option not in request.asked or option == "grace":
            continue
        there = from_record.get(option.upper(), "none")
        if there != str(value):
            is_number = len(there) < 20 and there.isascii() and there.isdigit()
            if not is_number and there not in ("none", "-1"):
                there = "a damaged one"
            text = f"--{option.replace('_', '-')} has no effect: the scope exists, with {there}"
            if text not in warnings:
                warnings.append(text)


def _read_record(raw: bytes, directory: str) -> dict[str, str]:
    try:
        return records.loads(raw, records.OF_SCOPE)
    except records.RecordError as error:
        from scopekeeper.errors import ForeignError
        from scopekeeper.launch.waiting import how_to_end

        raise ForeignError(
            f"{directory}: {error}",
            f"it is left alone; choose another --run, or end it: {how_to_end(directory)}",
        ) from None


def _sure_leaf(directory: str, name: str) -> str:
    """Return a leaf with a living process, or held, that is sure of its scope; '' if there is none.

    Remove empty leaves of the same name on the way, unless a launch is about to enter them. A leaf
    that its member has closed to us may live: it is returned if there is no other, and then systemd
    is asked whether the scope lives.
    """
    same = names.leaf_name(name, "")  # what stands before the id in a leaf of that name
    found = closed = ""
    for entry in posix.listdir(directory):
        is_same = entry[: -names.ID_LENGTH] == same
        if not entry.startswith("m-") or (found and not is_same):
            continue
        leaf = f"{directory}/{entry}"
        try:
            if _is_alive(leaf):
                if not found and _is_sure(leaf):
                    found = leaf
            elif is_same and _is_left_over(leaf, name):
                posix.rmdir(leaf)
            elif not found and _is_held(leaf):
                found = leaf
        except PermissionError:
            closed = leaf
        except (OSError, records.RecordError):
            continue
    return found or closed


def _is_sure(leaf: str) -> bool:
    """Return whether a living member is sure of its scope; one that was placed is."""
    raw = attribute(leaf, records.ATTRIBUTE) or b""
    return b"\nJOINING=" not in raw or _PLACED in raw


def _is_held(leaf: str) -> bool:
    """Return whether an empty leaf waits for its first process, with its scope held for it."""
    raw = attribute(leaf, records.ATTRIBUTE) or b""
    if _PLACED not in raw:
        return False
    record = records.loads(raw, records.OF_MEMBER)
    return runs(record["PID"], record["START"])


def _is_left_over(leaf: str, name: str) -> bool:
    """Return whether an empty leaf is of that name, and no launch is about to enter it.

    Launchers that wait would else remove a new leaf again and again before its own launcher, on a
    loaded machine, has moved in. The whole name counts: two long names can be cut to the same.
    """
    raw = attribute(leaf, records.ATTRIBUTE)
    if raw is None:  # its launcher was killed, or is about to write the record
        return time.time() - posix.stat(leaf).st_ctime > names.ENTERING_SECONDS
    record = records.loads(raw, records.OF_MEMBER)
    return record["NAME"] == name and not runs(record["PID"], record["START"])


def _is_surely_alive(leaf: str) -> bool:
    try:
        return _is_alive(leaf)
    except OSError:  # it cannot be read
        return False


def _is_alive(leaf: str) -> bool:
    try:
        return "populated 1" in read(f"{leaf}/cgroup.events")
    except OSError as error:
        if error.errno not in GONE:
            raise
        return False
