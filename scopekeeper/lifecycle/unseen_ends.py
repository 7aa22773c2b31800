"""Ends that nobody saw, from what launches and stops have left in the ledger.

A member is over when nothing lives in its leaf. Who looks writes such ends to the history, and
drops their lines: the file is moved aside first, since a launch may be about to write to it, and
the lines of those that live are taken over before it is removed.

Other programs of the same user can write lines too: each is read typed and bounded, and can add a
row to that user's own history, and nothing else. For the form of a line see
scopekeeper.history.launch_ledger.
"""

import contextlib
import dataclasses
import fcntl
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from scopekeeper import regular_files
from scopekeeper.history import launch_ledger, recording
from scopekeeper.history.end import BETWEEN_LOOKS, UNSEEN, End
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import namespaces, read
from scopekeeper.lifecycle import stop_mark
from scopekeeper.scope import names, record_parser, records
from scopekeeper.scope.reason import Cause, Reason

_READ_MOST = launch_ledger.MOST + (1 << 20)
_SETTLED_SECONDS = 10.0
"""How long a launch may take from opening the file to writing its line."""
_PATIENCE = 1.0
"""Seconds to wait for somebody else who collects."""


@dataclass(frozen=True, slots=True)
class _Line:
    """What was left of one launch, or of one member that a stop was about to end."""

    raw: bytes
    end: End
    leaf: str
    """The leaf's path in the cgroup2 hierarchy."""
    namespaces: str
    cause: Cause | None

    def is_over(self, mount: str, here: str) -> bool:
        """Return whether nothing lives in the member's leaf, or that is gone."""
        if self.namespaces != here:
            return False  # another container's, which cannot be seen from here
        try:
            return "populated 0" in read(f"{mount}{self.leaf}/cgroup.events")
        except OSError as error:
            return error.errno in cgroupfs.GONE


def announce(ends: Sequence[End], cause: Cause, scope: str) -> None:
    """Leave word of the members that are about to be ended, and why; scope is its cgroup's path."""
    launch_ledger.append(b"".join(lines_of(ends, cause, scope)))


def lines_of(ends: Sequence[End], cause: Cause, scope: str) -> Iterator[bytes]:
    """Yield the lines of living members; scope is its cgroup's path."""
    told = {"CGROUP": scope, "NAMESPACES": namespaces(), **stop_mark.fields(cause)}
    for end in ends:
        if end.processes:
            yield launch_ledger.line(_fields(end) | told)


def collect(mount: str, known: Collection[str] = ()) -> tuple[list[End], str]:
    """Write ends that nobody saw to the history; return them, and what went wrong, '' if nothing.

    known are ids of members that the caller tells of itself. Raises nothing.
    """
    try:
        with _alone() as alone:
            return _collect(mount, known) if alone else ([], "")
    except OSError as error:
        return [], f"ends that nobody saw were not written: {error.filename}: {error.strerror}"


def over(mount: str) -> list[End]:
    """Return ends of which there are lines, whether they are in the history or not."""
    where, here = launch_ledger.path(), namespaces()
    with contextlib.suppress(OSError):
        raw = _read(where + launch_ledger.EARLIER)[0] + _read(where)[0]
        return [each.end for each in _lines(raw) if each.is_over(mount, here)]
    return []


def _collect(mount: str, known: Collection[str]) -> tuple[list[End], str]:
    where = launch_ledger.path()
    earlier, aged = _read(where + launch_ledger.EARLIER)
    recent, _ = _read(where)
    here = namespaces()
    over: dict[tuple[str, int], End] = {}
    now = time.time_ns() // 1000

    old_lines, new_lines = list(_lines(earlier)), list(_lines(recent))
    gone = [each for each in (*old_lines, *new_lines) if each.is_over(mount, here)]
    for each in gone:
        if each.end.member_id not in known:
            key = (each.end.member_id, each.end.started)
            if each.cause is not None or key not in over:
                over[key] = _told(each, now)
    ends = list(over.values())
    problem = recording.record(ends)
    if not problem:
        lost = {id(each) for each in gone}
        if earlier and aged > _SETTLED_SECONDS:
            launch_ledger.append(
                b"".join(b"\n%s\n" % e.raw for e in old_lines if id(e) not in lost)
            )
            _forget(where + launch_ledger.EARLIER)
            earlier = b""
        if not earlier and any(id(each) in lost for each in new_lines):
            with contextlib.suppress(FileNotFoundError):
                os.rename(where, where + launch_ledger.EARLIER)
                os.utime(where + launch_ledger.EARLIER)
    return ends, problem


def _told(each: _Line, now: int) -> End:
    end = dataclasses.replace(each.end, ended=now)
    if each.cause is None:
        return end
    evidence = "; ".join(filter(None, (each.cause.evidence, UNSEEN)))
    return dataclasses.replace(
        end, reason=each.cause.reason, evidence=evidence, stopper=each.cause.stopper
    )


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.contextmanager
def _alone() -> Iterator[bool]:
    """Hold the lock of who collects; False where there is nothing, or another is at it for long."""
    try:
        fd = regular_files.open_regular(f"{launch_ledger.path()}.lock", os.O_RDONLY | os.O_CREAT)
        os.fchmod(fd, 0o600)  # whatever the umask
    except FileNotFoundError:  # no runtime directory, so no lines either
        yield False
        return
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(0.01)
            else:
                yield True
                return
    finally:
        os.close(fd)


def _read(path: str) -> tuple[bytes, float]:
    """Return a file of ours, and how many seconds ago it was last written; b'' for none."""
    try:
        fd = regular_files.open_regular(path, most=_READ_MOST)
    except FileNotFoundError:
        return b"", 0.0
    with open(fd, "rb") as file:
        return file.read(_READ_MOST), time.time() - os.fstat(fd).st_mtime


def _lines(raw: bytes) -> Iterator[_Line]:
    for each in raw.split(b"\n"):
        if 0 < len(each) <= record_parser.SIZE_MAX:
            with contextlib.suppress(records.RecordError):
                yield _parse(each)


def _parse(line: bytes) -> _Line:
    """Read a line; raises RecordError."""
    raw = line.replace(b"\0", b"\n") + b"\n"
    fields = records.loads(raw, (*records.OF_MEMBER, *records.OF_SCOPE, "ID", "CGROUP"))
    scope, leaf = fields["CGROUP"], names.leaf_name(fields["NAME"], fields["ID"])
    unit = scope.rpartition("/")[2]
    if not scope.startswith("/") or ".." in scope.split("/"):
        raise records.RecordError(f"{scope[:40]!r} is no cgroup")
    whole, member = record_parser.scope(raw, unit), record_parser.member(raw, leaf)
    owner = member.owner
    end = End(
        member_id=fields["ID"],
        started=member.started,
        ended=0,
        session=whole.identity.session,
        lane=whole.identity.lane,
        name=member.name,
        reason=Reason.UNKNOWN,
        evidence=BETWEEN_LOOKS,
        session_id=whole.session_id,
        run=whole.identity.run,
        kind=member.kind,
        lifetime=member.lifetime,
        unit=unit,
        pid=member.pid or None,
        owner="" if owner.label == "-" else owner.label,
        boot_id=owner.boot_id,
        seen=False,
    )
    why = None if member.mark is None else stop_mark.said(member.mark)
    return _Line(line, end, f"{scope}/{leaf}", owner.namespaces, why)


def _fields(end: End) -> dict[str, str]:
    """Return an end as the fields of a line; what _parse reads."""
    return {
        "ID": end.member_id,
        "NAME": end.name,
        "PID": str(end.pid or 0),
        "START": "0",
        "STARTED": str(end.started),
        "SESSION": end.session,
        "LANE": end.lane,
        "SESSION_ID": end.session_id,
        "RUN": end.run,
        "KIND": end.kind,
        "LIFETIME": end.lifetime,
        "BOOT": end.boot_id,
        **_owner(end.owner),
    }


def _owner(label: str) -> dict[str, str]:
    pid = label.removeprefix("pid ")
    return {"OWNER_UNIT": label} if pid == label else {"OWNER_PID": pid}
