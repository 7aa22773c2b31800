"""Collects ends that nobody saw from the ledger that launches and stops write.

A member has ended when nothing lives in its leaf. A collector writes such ends to the history and
drops their lines: it moves the file aside first, since a launch may be about to write to it, and
copies the lines of living members before it removes the file.

Other programs of the same user can write lines too. Each is read typed and bounded, and can only
add a row to that user's own history. For the form of a line see scopekeeper.history.launch_ledger.
"""

import contextlib
import dataclasses
import fcntl
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scopekeeper import regular_files
from scopekeeper.history import launch_ledger, recording
from scopekeeper.history.end import BETWEEN_LOOKS, UNSEEN, End
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import namespaces, read, runs
from scopekeeper.lifecycle import label_lines, observe, oom, stop_mark
from scopekeeper.scope import names, record_parser, records
from scopekeeper.scope.launched import words
from scopekeeper.scope.model import Identity, Liveness, Owner
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.scope.snapshot import Reader

_READ_MOST = launch_ledger.MOST + (1 << 20)
_SETTLED_SECONDS = 10.0
"""How long a launch may take from opening the file to writing its line."""
_OF_STOP = b"\0STATE=stopping\0"
_PATIENCE = 1.0
"""Seconds to wait for another collector."""
Life = tuple[str, str]
"""A unit and the epoch of one life of it."""
NO_LIVES: Mapping[Life, str] = {}


@dataclass(frozen=True, slots=True)
class _Line:
    """One launch, or one member that a stop was about to end."""

    raw: bytes
    end: End
    leaf: str
    """The leaf's path in the cgroup2 hierarchy."""
    owner: Owner
    cause: Cause | None
    start_time: int
    """Of its process, in clock ticks since boot; 0 in the line of a stop."""
    earlier: str
    """The member that its process was just before, as ``UNIT/LEAF``; '' if it was none."""
    scope: label_lines.Key = ("", "")
    """The life of its scope; in the line of a stop, of no scope."""

    @property
    def key(self) -> str:
        """Return how records name it: ``UNIT/LEAF``."""
        return f"{self.end.unit}/{self.end.leaf}"

    def is_on_its_way(self) -> bool:
        """Return whether its process has just left its leaf, maybe to go on as another member."""
        age = time.time() - self.end.started / 1e6
        if not (self.start_time and 0 <= age < _SETTLED_SECONDS):
            return False
        with contextlib.suppress(OSError):
            return runs(self.end.pid or 0, self.start_time)
        return False

    def is_over(self, mount: str, here: str) -> bool:
        """Return True if the member's leaf is empty or gone."""
        if self.owner.namespaces != here:
            return False  # of another container, invisible from here
        try:
            return "populated 0" in read(f"{mount}{self.leaf}/cgroup.events")
        except OSError as error:
            return error.errno in cgroupfs.GONE


def announce(ends: Sequence[End], causes: Sequence[Cause], scope: str) -> None:
    """Write lines of members that are about to be ended; scope is the path of its cgroup."""
    launch_ledger.append(b"".join(lines_of(ends, causes, scope)))


def lines_of(ends: Sequence[End], causes: Sequence[Cause], scope: str) -> Iterator[bytes]:
    """Yield the lines of living members with the cause of each; scope is the path of its cgroup."""
    common = {"CGROUP": scope, "NAMESPACES": namespaces()}
    marks = {cause: stop_mark.fields(cause) for cause in set(causes)}
    for end, cause in zip(ends, causes, strict=True):
        if end.processes:
            yield launch_ledger.line(_fields(end) | common | marks[cause])


def collect(
    mount: str, known: Collection[str] = (), ended: Mapping[Life, str] = NO_LIVES
) -> tuple[list[End], str]:
    """Write ends that nobody saw to the history; return them and a problem, '' if there was none.

    known are ids of members whose ends the caller reports itself; ended has the evidence for lives
    of services that have ended, and may not be inactive yet. Raises nothing.
    """
    try:
        with _alone() as alone:
            return _collect(mount, known, ended) if alone else ([], "")
    except OSError as error:
        return [], f"ends that nobody saw were not written: {error.filename}: {error.strerror}"


def over(mount: str) -> list[End]:
    """Return the ends that have lines, whether they are in the history or not."""
    here = namespaces()
    lines = _all_lines()
    continued = {each.earlier for each in lines}
    return [
        each.end
        for each in lines
        if each.is_over(mount, here) and (each.key in continued or not each.is_on_its_way())
    ]


def launched(scope: str) -> dict[str, End]:
    """Return, by leaf, the members that launches wrote into the cgroup path of a scope."""
    here = namespaces()
    lines = (each for each in _all_lines() if each.owner.namespaces == here and each.cause is None)
    by_path = {each.leaf: dataclasses.replace(each.end, seen=True) for each in lines}
    below = f"{scope}/"
    return {path[len(below) :]: end for path, end in by_path.items() if path.startswith(below)}


def causes_of(ends: Sequence[End]) -> list[Cause | None]:
    """Return why each of some members was stopped, None if it is unknown; raises nothing.

    As the stop has written to the history, or else to the ledger before its first signal: it may
    be killed before it writes the history, or take long on a loaded machine.
    """
    causes = recording.causes_of(ends)
    if None not in causes:
        return causes
    here = namespaces()
    announced = {
        (each.end.member_id, each.end.started): each.cause
        for each in _all_lines(_OF_STOP)
        if each.owner.namespaces == here
    }
    return [
        cause or announced.get((end.member_id, end.started))
        for end, cause in zip(ends, causes, strict=True)
    ]


def labelled(ends: Sequence[End]) -> list[End]:
    """Return ends with the labels that the ledger has, where they lack one; raises nothing.

    A label that was given right before an end may not have been read from the scope's record.
    """
    if all(end.label for end in ends):
        return list(ends)
    found = {
        (each.end.member_id, each.end.started): each.end.label
        for each in _all_lines()
        if each.end.label
    }
    return [
        dataclasses.replace(end, label=end.label or found.get((end.member_id, end.started), ""))
        for end in ends
    ]


def launch_of(run: str, pid: int | None) -> tuple[str, int] | None:
    """Return the path of the leaf into which a run's command was launched, and when; None if lost.

    The time is in microseconds since the epoch.
    """
    here = namespaces()
    for each in reversed(_all_lines()):
        if (each.end.run, each.end.pid, each.owner.namespaces) == (run, pid, here):
            return each.leaf, each.end.started
    return None


def _all_lines(part: bytes = b"") -> list[_Line]:
    """Return the lines that have this part."""
    where = launch_ledger.path()
    try:
        recent = _read(where)[0]  # first: a collector may be about to move it to the other
        raw = _read(where + launch_ledger.EARLIER)[0] + recent
        return list(_lines(raw, label_lines.read(raw), part))
    except OSError:
        return []


def _collect(
    mount: str, known: Collection[str], ended: Mapping[Life, str]
) -> tuple[list[End], str]:
    where = launch_ledger.path()
    earlier, aged = _read(where + launch_ledger.EARLIER)
    recent, _ = _read(where)
    here = namespaces()
    over: dict[tuple[str, int], _Line] = {}
    clues = _Clues(mount, ended)
    now = time.time_ns() // 1000

    labels = label_lines.read(earlier + recent)
    old_lines, new_lines = list(_lines(earlier, labels)), list(_lines(recent, labels))
    lines = [*old_lines, *new_lines]
    continued = {each.earlier: each for each in lines if each.earlier}
    gone = [
        each
        for each in lines
        if each.is_over(mount, here) and (each.key in continued or not each.is_on_its_way())
    ]
    for each in gone:
        if each.end.member_id not in known:
            key = (each.end.member_id, each.end.started)
            if each.cause is not None or key not in over:
                over[key] = each
    ends = [_end_of(each, now, clues, continued.get(each.key)) for each in over.values()]
    problem = recording.record(ends)
    if not problem:
        lost = {id(each) for each in gone}
        if earlier and aged > _SETTLED_SECONDS:
            left = [each for each in old_lines if id(each) not in lost]
            scopes = {each.scope for each in (*left, *new_lines)}
            again = [*(b"\n%s\n" % each.raw for each in left), *label_lines.kept(labels, scopes)]
            launch_ledger.append(b"".join(again))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(where + launch_ledger.EARLIER)
            earlier = b""
        if not earlier and any(id(each) in lost for each in new_lines):
            with contextlib.suppress(FileNotFoundError):
                os.rename(where, where + launch_ledger.EARLIER)
                os.utime(where + launch_ledger.EARLIER)
    return ends, problem


@dataclass(slots=True)
class _Clues:
    """What is left that may explain an end."""

    mount: str
    ended: Mapping[Life, str]
    owners: Reader = field(init=False)
    results: oom.Results = field(default_factory=oom.Results)

    def __post_init__(self) -> None:
        self.owners = Reader(self.mount)

    def out_of_memory(self, each: _Line) -> End | None:
        """Return the end of a member that was killed when out of memory; None if nothing proves it.

        The cgroup of its scope, or else its unit, may be there for a little longer.
        """
        leaf = f"{self.mount}{each.leaf}"
        scope, path = leaf.rpartition("/")[0], each.leaf.rpartition("/")[0]
        killed = oom.of_leaf(leaf)
        if killed:
            evidence = oom.counted(killed)
        else:
            is_there = os.path.isdir(scope)
            evidence = oom.of_scope(scope, each.end) if is_there else self.results.evidence(path)
        if not evidence:
            return None
        return dataclasses.replace(
            each.end, reason=Reason.OOM_KILLED, evidence=f"{BETWEEN_LOOKS}; {evidence}",
            oom_kills=killed or None,
        )  # fmt: skip


def _end_of(each: _Line, now: int, clues: _Clues, next_: _Line | None) -> End:
    """Return the end of a member; next_ is the one as which its process went on, if it did."""
    if next_ is not None and each.cause is None and next_.end.pid == each.end.pid:
        then = next_.end
        name = words(then.name, then.leaf, Identity(then.session, then.lane, then.run))
        return observe.continued(each.end, then.started, name)
    end = dataclasses.replace(each.end, ended=now)
    if each.cause is None:
        out_of_memory = clues.out_of_memory(each)
        if out_of_memory is not None:
            return dataclasses.replace(out_of_memory, ended=now)
        return dataclasses.replace(end, evidence=_with_service(each, clues))
    evidence = "; ".join(filter(None, (each.cause.evidence, UNSEEN)))
    return dataclasses.replace(
        end, reason=each.cause.reason, evidence=evidence, stopper=each.cause.stopper
    )


def _with_service(each: _Line, clues: _Clues) -> str:
    """Return what is known of an end: systemd ends a member with the service that owns it."""
    if each.owner.unit and each.end.lifetime == "gateway":
        known = clues.ended.get((each.owner.unit, each.owner.epoch))
        if known:
            return f"{BETWEEN_LOOKS}, and so did its owner: {known}"
        state = clues.owners.owner_state(each.owner)
        if state.liveness is Liveness.GONE:
            return f"{BETWEEN_LOOKS}, and so did its owner: {state.evidence}"
    return BETWEEN_LOOKS


@contextlib.contextmanager
def _alone() -> Iterator[bool]:
    """Hold the collector's lock; False if there is no ledger, or another collector takes long."""
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
    """Return the content of a file and its age in seconds; b'' if it is missing."""
    try:
        fd = regular_files.open_regular(path, most=_READ_MOST)
    except FileNotFoundError:
        return b"", 0.0
    with open(fd, "rb") as file:
        return file.read(_READ_MOST), time.time() - os.fstat(fd).st_mtime


def _lines(
    raw: bytes, labels: label_lines.Labels = label_lines.NONE, part: bytes = b""
) -> Iterator[_Line]:
    for each in raw.split(b"\n"):
        if 0 < len(each) <= record_parser.SIZE_MAX and part in each:
            with contextlib.suppress(records.RecordError):
                found = _parse(each)
                label = labels.get(found.scope) if not found.end.label else None
                if label is not None and label.label:
                    end = dataclasses.replace(found.end, label=label.label)
                    found = dataclasses.replace(found, end=end)
                yield found


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
        label=whole.label,
    )
    why = None if member.mark is None else stop_mark.stated(member.mark)
    earlier = member.launched_in[-1] if member.continues and member.launched_in else ""
    life = scope, fields.get("SCOPE_BORN", "")
    return _Line(line, end, f"{scope}/{leaf}", owner, why, member.start_time, earlier, life)


def _fields(end: End) -> dict[str, str]:
    """Return an end as the fields of a line; the inverse of _parse."""
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
        "LABEL": end.label,
        "BOOT": end.boot_id,
        **_owner(end.owner),
    }


def _owner(label: str) -> dict[str, str]:
    pid = label.removeprefix("pid ")
    return {"OWNER_UNIT": label} if pid == label else {"OWNER_PID": pid}
