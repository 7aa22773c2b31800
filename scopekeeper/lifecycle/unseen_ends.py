"""Collects ends that nobody saw from the ledger that launches and stops write.

A member has ended when nothing lives in its leaf. A collector writes such ends to the history and
drops their lines: it moves the file aside first, since a launch may be about to write to it, and
copies the lines of living members before it removes the file.

Other programs of the same user can write lines too. Each is read typed and bounded, and can only
add a row to that user's own history. For the form of a line see scopekeeper.history.launch_ledger.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from scopekeeper import regular_files
from scopekeeper.data import replace
from scopekeeper.history import launch_ledger, recording
from scopekeeper.history.end import BETWEEN_LOOKS, UNSEEN, End
from scopekeeper.kernel.proc import namespaces
from scopekeeper.lifecycle import label_lines, member_lines, observe, oom, stop_mark
from scopekeeper.lifecycle.member_lines import SETTLED_SECONDS, Line
from scopekeeper.lifecycle.time_limit import TimedOut
from scopekeeper.scope.launched import words
from scopekeeper.scope.model import Identity, Liveness
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.scope.snapshot import Reader

_READ_MOST = launch_ledger.MOST + (1 << 20)
_OF_STOP = b"\0STATE=stopping\0"
_PATIENCE = 1.0
"""Seconds to wait for another collector."""
Life = tuple[str, str]
"""A unit and the epoch of one life of it."""
NO_LIVES: Mapping[Life, str] = {}


def announce(ends: Sequence[End], causes: Sequence[Cause], scope: str) -> None:
    """Write lines of members that are about to be ended; scope is the path of its cgroup."""
    launch_ledger.append(b"".join(lines_of(ends, causes, scope)))


def lines_of(ends: Sequence[End], causes: Sequence[Cause], scope: str) -> Iterator[bytes]:
    """Yield the lines of living members with the cause of each; scope is the path of its cgroup."""
    common = {"CGROUP": scope, "NAMESPACES": namespaces()}
    marks = {cause: stop_mark.fields(cause) for cause in set(causes)}
    for end, cause in zip(ends, causes, strict=True):
        if end.processes:
            yield launch_ledger.line(member_lines.fields_of(end) | common | marks[cause])


def collect(
    mount: str,
    known: Collection[str] = (),
    ended: Mapping[Life, str] = NO_LIVES,
    *,
    living: Collection[str] = (),
) -> tuple[list[End], str]:
    """Write ends that nobody saw to the history; return them and a problem, '' if there was none.

    known are ids of members whose ends the caller reports itself, living those of them that it sees
    living; ended has the evidence for lives of services that have ended, and may not be inactive
    yet. Raises nothing.
    """
    try:
        with _alone() as alone:
            return _collect(mount, known, ended, living) if alone else ([], "")
    except OSError as error:
        return [], f"ends that nobody saw were not written: {error.filename}: {error.strerror}"


def was_collected(seconds: float) -> bool:
    """Return whether a collector has looked within so many seconds."""
    try:
        return 0 <= time.time() - os.stat(_lock_file()).st_mtime < seconds
    except OSError:
        return False


def over(mount: str, concerns: Callable[[End], bool]) -> list[End]:
    """Return the ends that have lines, whether they are in the history or not.

    concerns is called first, with what would be the end of a member, whether that lives or not.
    """
    lines = _all_lines()
    continued = {each.earlier for each in lines}
    named = [each for each in lines if concerns(each.end)]
    return [each.end for each in member_lines.over(named, mount, continued)]


def launched(scope: str) -> dict[str, End]:
    """Return, by leaf, the members that launches wrote into the cgroup path of a scope."""
    here = namespaces()
    found = _all_lines(member_lines.part_of("CGROUP", scope))
    lines = (each for each in found if each.owner.namespaces == here and each.cause is None)
    by_path = {each.leaf: replace(each.end, seen=True) for each in lines}
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
    ids = {end.member_id for end, cause in zip(ends, causes, strict=True) if cause is None}
    announced = {
        (each.end.member_id, each.end.started): each.cause
        for each in member_lines.parsed(member_lines.of_members(_raw(), ids), part=_OF_STOP)
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
    ids = {end.member_id for end in ends if not end.label}
    raw = _raw() if ids else b""
    labels = label_lines.read(raw)
    found = {
        (each.end.member_id, each.end.started): each.end.label
        for each in member_lines.parsed(member_lines.of_members(raw, ids), labels)
        if each.end.label
    }
    return [
        replace(end, label=end.label or found.get((end.member_id, end.started), "")) for end in ends
    ]


def launch_of(run: str, pid: int | None) -> tuple[str, int] | None:
    """Return the path of the leaf into which a run's command was launched, and when; None if lost.

    The time is in microseconds since the epoch.
    """
    here = namespaces()
    for each in reversed(_all_lines(member_lines.part_of("RUN", run))):
        if (each.end.run, each.end.pid, each.owner.namespaces) == (run, pid, here):
            return each.leaf, each.end.started
    return None


def _all_lines(part: bytes = b"") -> list[Line]:
    """Return the lines that have this part."""
    raw = _raw()
    return list(member_lines.parsed(raw, label_lines.read(raw), part))


def _raw() -> bytes:
    """Return all lines; b'' if they cannot be read."""
    where = launch_ledger.path()
    try:
        recent = _read(where)[0]  # first: a collector may be about to move it to the other
        return _read(where + launch_ledger.EARLIER)[0] + recent
    except OSError:
        return b""


def _collect(
    mount: str, known: Collection[str], ended: Mapping[Life, str], living: Collection[str]
) -> tuple[list[End], str]:
    where = launch_ledger.path()
    earlier, aged = _read(where + launch_ledger.EARLIER)
    recent, _ = _read(where)
    over: dict[tuple[str, int], Line] = {}
    now = time.time_ns() // 1000

    labels = label_lines.read(earlier + recent)
    clues = _Clues(mount, ended, earlier + recent, labels)
    old_alive, old_others = member_lines.split(earlier, living)
    new_alive, new_others = member_lines.split(recent, living)
    old_lines = list(member_lines.parsed(old_others, labels))
    new_lines = list(member_lines.parsed(new_others, labels))
    lines = [*old_lines, *new_lines]
    continued = {each.earlier: each for each in lines if each.earlier}
    gone = member_lines.over(lines, mount, continued)
    for each in gone:
        if each.end.member_id not in known:
            key = (each.end.member_id, each.end.started)
            if each.cause is not None or key not in over:
                over[key] = each
    ends = [_end_of(each, now, clues, continued.get(each.key)) for each in over.values()]
    problem = recording.record(ends)
    if not problem:
        lost = {id(each) for each in gone}
        if earlier and aged > SETTLED_SECONDS:
            left = [each for each in old_lines if id(each) not in lost]
            alive = member_lines.parsed(b"\n".join((*old_alive, *new_alive))) if labels else ()
            scopes = {each.scope for each in (*left, *new_lines, *alive)}
            raw = [*old_alive, *(each.raw for each in left)]
            again = [*(b"\n%s\n" % each for each in raw), *label_lines.kept(labels, scopes)]
            launch_ledger.append(b"".join(again))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(where + launch_ledger.EARLIER)
            earlier = b""
        if not earlier and any(id(each) in lost for each in new_lines):
            with contextlib.suppress(FileNotFoundError):
                os.rename(where, where + launch_ledger.EARLIER)
                os.utime(where + launch_ledger.EARLIER)
    return ends, problem


class _Clues:
    """What is left that may explain an end."""

    def __init__(
        self, mount: str, ended: Mapping[Life, str], raw: bytes, labels: label_lines.Labels
    ) -> None:
        self.mount = mount
        self.ended = ended
        self.raw = raw
        """The ledger."""
        self.labels = labels
        self.owners = Reader(mount)
        self.results = oom.Results()
        self.timed_out = TimedOut()

    def out_of_memory(self, each: Line) -> End | None:
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
            evidence = oom.of_oomd(scope, each.end.leaf) or (
                oom.of_scope(scope, each.end) if is_there else self.results.evidence(path)
            )
        if not evidence:
            return None
        return replace(
            each.end, reason=Reason.OOM_KILLED, evidence=f"{BETWEEN_LOOKS}; {evidence}",
            oom_kills=killed or None,
        )  # fmt: skip

    def time_over(self, each: Line) -> End | None:
        """Return the end of a member whose scope systemd ended after its ttl; None if unproved.

        The scope lived that long if its one member did. Of several, each may have ended earlier.
        """
        if each.limit is None:
            return None
        path = each.scope[0]
        part = member_lines.part_of("CGROUP", path)
        found = [x for x in member_lines.parsed(self.raw, self.labels, part) if x.scope[0] == path]
        others = [
            other for other in found
            if other.end.member_id != each.end.member_id and other.end.started >= each.end.started
        ]  # fmt: skip
        evidence = self.timed_out.evidence(
            each.limit, min((other.end.started for other in others), default=None)
        )
        same = [x for x in found if x.scope == each.scope]
        is_alone = {x.end.member_id for x in same} == {each.end.member_id}
        if not (evidence and is_alone and recording.is_only_one(each.end)):
            return None
        evidence = f"{BETWEEN_LOOKS}; {evidence}"
        return replace(each.end, reason=Reason.TTL, evidence=evidence)


def _end_of(each: Line, now: int, clues: _Clues, next_: Line | None) -> End:
    """Return the end of a member; next_ is the one as which its process went on, if it did."""
    if next_ is not None and each.cause is None and next_.end.pid == each.end.pid:
        then = next_.end
        name = words(then.name, then.leaf, Identity(then.session, then.lane, then.run))
        return observe.continued(each.end, then.started, name)
    end = replace(each.end, ended=now)
    if each.cause is None:
        out_of_memory = clues.out_of_memory(each)
        if out_of_memory is not None:
            return replace(out_of_memory, ended=now)
        time_over = clues.time_over(each)
        if time_over is not None:
            return replace(time_over, ended=now)
        return replace(end, evidence=_with_service(each, clues))
    evidence = "; ".join(filter(None, (each.cause.evidence, UNSEEN)))
    return replace(end, reason=each.cause.reason, evidence=evidence, stopper=each.cause.stopper)


def _with_service(each: Line, clues: _Clues) -> str:
    """Return what is known of an end: systemd ends a member with the service that owns it."""
    if each.owner.unit and each.end.lifetime == "gateway":
        known = clues.ended.get((each.owner.unit, each.owner.epoch))
        if known:
            return f"{BETWEEN_LOOKS}, and so did its owner: {known}"
        state = clues.owners.owner_state(each.owner)
        if state.liveness is Liveness.GONE:
            return f"{BETWEEN_LOOKS}, and so did its owner: {state.evidence}"
    return BETWEEN_LOOKS


def _lock_file() -> str:
    return f"{launch_ledger.path()}.lock"


@contextlib.contextmanager
def _alone() -> Iterator[bool]:
    """Hold the collector's lock; False if there is no ledger, or another collector takes long."""
    try:
        fd = regular_files.open_regular(_lock_file(), os.O_RDONLY | os.O_CREAT)
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
                os.utime(fd)
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
