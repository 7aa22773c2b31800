"""Changes records while they are in use, under the scope's lock.

Above all it writes the mark of a stop, which keeps launches from joining:

``STATE=stopping``; ``STOPPER_PID`` and ``STOPPER_START`` are the process that carries it out, which
tells a running stop from a killed one; ``WHY`` and ``REASON`` are the cause; ``ASKER_PID``,
``ASKER_UID``, ``ASKER_COMM``, ``ASKER_USER`` and ``ASKER_TTY`` describe the process that asked for
it. The processes in the cgroup can write all of that themselves, so the cause is read from where
the stopper keeps it (``stop_witness``).
"""

import contextlib
import errno
import fcntl
import functools
import os
import time
from collections.abc import Iterator, Mapping

from scopekeeper.data import dataclass
from scopekeeper.history.end import MEANWHILE, UNPROVED
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import open_lock, start_time
from scopekeeper.lifecycle import stop_witness
from scopekeeper.lifecycle.stop_target import Judged
from scopekeeper.scope import record_parser, records
from scopekeeper.scope.reason import Cause, Reason, Stopper
from scopekeeper.scope.record_parser import ScopeRecord, StopMark

NO_RECORD, NOTHING = "it has no record of ours", "nothing lives in it"
CHANGED = "something else has come to live in it"
ADOPTED = "it has got another owner"
KEYS = (
    "STATE", "STOPPER_PID", "STOPPER_START", "WHY", "REASON",
    "ASKER_PID", "ASKER_UID", "ASKER_COMM", "ASKER_USER", "ASKER_TTY",
)  # fmt: skip
_LOCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Marked:
    """What became of the mark of one stop."""

    problem: str
    """Why the target may not be stopped; '' if it is marked."""
    cause: Cause
    """The cause that holds: see ``holding``."""
    scope: ScopeRecord | None = None
    """The scope's record before the mark; None if damaged or unread."""
    earlier: Cause | None = None
    """The cause of a stop of the scope that was begun before; None if none was."""


def fields(cause: Cause) -> dict[str, str]:
    """Return the mark of a stop by this process."""
    mark = {
        "STATE": "stopping",
        **_stopper(os.getpid()),
        "WHY": cause.reason.value,
        "REASON": cause.text[: record_parser.REASON_MAX],
    }
    if cause.stopper is not None:
        mark |= {
            "ASKER_PID": str(cause.stopper.pid),
            "ASKER_UID": str(cause.stopper.uid),
            "ASKER_COMM": cause.stopper.command,
            "ASKER_USER": cause.stopper.user,
            "ASKER_TTY": cause.stopper.terminal,
        }
    return mark


@functools.lru_cache(maxsize=1)
def _stopper(own: int) -> dict[str, str]:
    """Return the fields of this process, whose pid is own; one stop marks many targets."""
    return {"STOPPER_PID": str(own), "STOPPER_START": start_time("self")}


def cause(directory: str, found: StopMark | None) -> Cause | None:
    """Return the cause of a stop of this cgroup; None if no stopper has kept one.

    found is the mark in its record.
    """
    kept = stop_witness.find(directory) if found is not None else None
    return None if kept is None else stated(kept)


def claim(found: StopMark | None) -> str:
    """Return the cause stated by a mark that no stopper confirms, quoted as unproved."""
    if found is None:
        return ""
    cause = stated(found)
    return f"its record says {cause.reason.value} ({cause.evidence or 'no reason'}), {UNPROVED}"


def stated(found: StopMark) -> Cause:
    """Return the cause stated by a mark, whoever wrote it."""
    stopper = None if found.asker is None else Stopper(*found.asker)
    return Cause(Reason.of(found.why), found.text, stopper)


def holding(first: Cause | None, second: Cause) -> Cause:
    """Return the cause of what is stopped a second time: the first one, with the second one named.

    first is None, or unknown, if no stop of it was begun. A third one is not named: a stop that is
    repeated again and again would fill the record.
    """
    if first is None or first.reason is Reason.UNKNOWN:
        return second
    is_same = (first.reason, first.text) == (second.reason, second.text)
    if (is_same and first.stopper in (None, second.stopper)) or MEANWHILE in first.text:
        return first
    also = second.evidence or second.reason.value
    text = f"{first.text}; {MEANWHILE} {also}" if first.text else f"{MEANWHILE} {also}"
    return Cause(first.reason, text, first.stopper)


def begun(directory: str) -> Cause | None:
    """Return the cause of a stop of a scope or a leaf that was begun; None if none was."""
    kept = stop_witness.find(directory)  # first: of most there is none, and it costs less
    with contextlib.suppress(OSError, records.RecordError):
        if kept is not None:
            fields = records.loads(cgroupfs.attribute(directory, records.ATTRIBUTE) or b"")
            return stated(kept) if "STATE" in fields else None
    return None


def record_of(scope_directory: str) -> ScopeRecord | None:
    """Return the record of a scope; None if it is missing or damaged."""
    with contextlib.suppress(OSError, records.RecordError):
        raw = cgroupfs.attribute(scope_directory, records.ATTRIBUTE)
        return record_parser.scope(raw, scope_directory.rpartition("/")[2])
    return None


def put(
    directory: str,
    scope_directory: str,
    leaf: str,
    cause: Cause,
    judged: Judged | None = None,
    *,
    kill_at: int,
) -> Marked:
    """Write a mark into the record of a scope, or of the member in leaf, if it is ours to stop.

    With judged, only if that is still true. kill_at is when the stop kills what is left, in
    microseconds of CLOCK_BOOTTIME, for those who ask meanwhile. Takes the scope's lock exclusively,
    so that no launch and no adoption is half-way in.
    """
    marked = _put(directory, scope_directory, leaf, cause, judged, kill_at)
    if marked.problem == NO_RECORD:
        _await_record(directory)
        marked = _put(directory, scope_directory, leaf, cause, judged, kill_at)
    return marked


def _put(
    directory: str,
    scope_directory: str,
    leaf: str,
    asked: Cause,
    judged: Judged | None,
    kill_at: int,
) -> Marked:
    holds, scope, earlier = asked, None, None
    try:
        with _locked(scope_directory):
            raw = cgroupfs.attribute(directory, records.ATTRIBUTE)
            if raw is None:
                # a cgroup that is just being created or removed has nothing to stop
                problem = NO_RECORD if cgroupfs.is_populated(directory) else NOTHING
                return Marked(problem, holds)
            found = record_parser.load(raw, records.OF_MEMBER if leaf else records.OF_SCOPE)
            if leaf:
                record_parser.member_of(found, leaf)
                scope = record_of(scope_directory)
            else:
                scope = record_parser.scope_of(found, scope_directory.rpartition("/")[2])
            changed = _change(directory, leaf, judged) if judged is not None else ""
            if changed:
                return Marked(changed, holds)
            if scope is not None:
                earlier = cause(scope_directory if leaf else directory, scope.mark)
            first = (begun(directory) or begun(scope_directory)) if leaf else earlier
            holds = holding(first, asked)
            mark = fields(holds)
            stop_witness.keep(directory, {**mark, "KILL_AT": str(kill_at)})
            kept = {key: value for key, value in found.items() if key not in KEYS}
            os.setxattr(directory, records.ATTRIBUTE, records.dumps({**kept, **mark}))
    except records.RecordError as error:
        return Marked(str(error), holds)
    except OSError as error:
        return Marked(_refusal(directory, error), holds, scope, earlier)
    return Marked("", holds, scope, earlier)


def why_not(directory: str, scope_directory: str) -> str:
    """Return why ``put`` would refuse this scope or leaf; '' if it would not. Changes nothing."""
    try:
        raw = cgroupfs.attribute(directory, records.ATTRIBUTE)
        if raw is None:
            return NO_RECORD if cgroupfs.is_populated(directory) else ""
        if directory == scope_directory:
            record_parser.scope(raw, scope_directory.rpartition("/")[2])
        else:
            record_parser.member(raw, directory.rpartition("/")[2])
        if os.geteuid() not in (0, os.stat(directory).st_uid):
            return _refusal(directory, PermissionError(errno.EPERM, ""))
    except records.RecordError as error:
        return str(error)
    except OSError as error:
        return _refusal(directory, error)
    return ""


def _refusal(directory: str, error: OSError) -> str:
    """Return why a stop may not go on without its mark; '' if it may."""
    if error.errno in cgroupfs.GONE:
        return ""
    if error.errno in (errno.ENOSPC, errno.E2BIG, errno.ERANGE):
        return ""  # its processes have filled up its attributes: launches that join stop as well
    if error.errno in (errno.EPERM, errno.EACCES):
        uid = os.stat(directory).st_uid
        return f"it belongs to uid {uid}; stop it as that user or as root"
    return f"cannot mark it: {error.strerror}"


def clear(directory: str) -> None:
    """Remove the mark."""
    raw = cgroupfs.attribute(directory, records.ATTRIBUTE)
    if raw is None:
        return
    with contextlib.suppress(OSError, records.RecordError):
        kept = {key: value for key, value in records.loads(raw).items() if key not in KEYS}
        os.setxattr(directory, records.ATTRIBUTE, records.dumps(kept))


def change(directory: str, scope_directory: str, changes: Mapping[str, str]) -> bool:
    """Set fields of a record that is in use; '' removes a field.

    Returns False if that was not possible now: a scope that is being stopped, or that a launch is
    joining, is not changed.
    """
    try:
        fd = os.open(scope_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    lock = -1
    try:
        lock = open_lock(fd)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fields = records.loads(os.getxattr(directory, records.ATTRIBUTE))
        whole = records.loads(os.getxattr(scope_directory, records.ATTRIBUTE))
        free = "STATE" not in fields and "STATE" not in whole
        if free:
            changed = records.dumps({**fields, **changes})
            os.setxattr(directory, records.ATTRIBUTE, changed, os.XATTR_REPLACE)
    except (OSError, records.RecordError):
        return False
    finally:
        if lock >= 0:
            os.close(lock)
        os.close(fd)
    return free


def _change(directory: str, leaf: str, judged: Judged) -> str:
    """Return how a scope, or the member in leaf, differs from what was judged, '' if in nothing."""
    if leaf:
        return _member_change(directory, leaf, judged)
    if cgroupfs.own_processes(directory) and not judged.strays:
        return CHANGED
    found = (_member_change(f"{directory}/{x}", x, judged) for x in cgroupfs.children(directory))
    return next(filter(None, found), "")


def _member_change(directory: str, leaf: str, judged: Judged) -> str:
    owner = None  # as in what was judged, if the record is damaged
    with contextlib.suppress(records.RecordError, PermissionError):
        raw = cgroupfs.attribute(directory, records.ATTRIBUTE)
        owner = record_parser.member(raw, leaf).owner
    if leaf in judged.owners and owner == judged.owners[leaf]:
        return ""
    if not cgroupfs.is_populated(directory):  # also if it was removed meanwhile
        return ""
    return ADOPTED if leaf in judged.owners else CHANGED


def _await_record(directory: str) -> None:
    """Wait until the launch that has just created this cgroup has written the record."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while (
        cgroupfs.attribute(directory, records.ATTRIBUTE) is None
        and cgroupfs.is_populated(directory)
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock = open_lock(fd)
    finally:
        os.close(fd)
    try:
        _lock(lock)
        yield
    finally:
        os.close(lock)


def _lock(fd: int) -> None:
    """Wait until no launch is on its way in, but not for one that hangs."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.001)
