"""Ends scopes and members, many at once, and proves it.

Mark the record, so that nobody joins any more → SIGTERM, then SIGCONT → wait for ``populated 0``
up to the grace → ``cgroup.kill`` → verify → write the history → have the cgroup removed, by
systemd or by us.

Killing is by cgroup, or by a pidfd whose cgroup was read after it was opened: never by a number.
Nothing is stopped that does not carry a record we can read.
"""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from scopekeeper.history import recording
from scopekeeper.history.end import End
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.emptiness import EmptinessWatch
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import observe, remove, stop_mark, stop_witness, unseen_ends
from scopekeeper.scope import names, record_parser, records
from scopekeeper.scope.reason import Cause
from scopekeeper.scope.record_parser import ScopeRecord
from scopekeeper.scope.selection import Selected

GRACE = 5.0
"""Seconds between SIGTERM and the kill, where neither the stop nor the launch says another."""
LONGEST_GRACE = 600.0
"""Of a launch, whatever its record asks for: that is for its members to write. A stop can be told
more."""
_KILL_SECONDS = 5.0
"""Longer than any killable process takes; what is left then waits in the kernel (D state)."""
_AGAIN = 0.1
"""Seconds between looks for processes that came to be after the signals were sent."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to stop: a scope's directory, or that of one member's leaf in it."""

    directory: str
    cgroup: str
    grace: float = GRACE
    leaves: frozenset[str] | None = None
    """Of a scope: those that are meant. Where anything else lives in it, it is left alone."""

    @property
    def is_member(self) -> bool:
        """Whether only one member of the scope is meant."""
        return names.parse_leaf(self.directory.rpartition("/")[2]) is not None

    @property
    def scope_directory(self) -> str:
        """The directory of the scope, also where a member is meant."""
        return self.directory.rpartition("/")[0] if self.is_member else self.directory

    @property
    def unit(self) -> str:
        """The name of the scope."""
        return self.scope_directory.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Remaining:
    """A process that did not die, and where in the kernel it waits."""

    pid: int
    state: str
    wchan: str
    command: str


@dataclass(slots=True)
class Result:
    """What was proved of one target."""

    target: Target
    outcome: str = "empty"
    """One of empty (nothing lived in it), changed (something else has come to live in it),
    terminated, killed, remains, refused."""
    terminated: int = 0
    """Processes that were sent SIGTERM."""
    killed: int = 0
    """Processes that were still there after the grace and were killed."""
    milliseconds: float = 0.0
    remaining: tuple[Remaining, ...] = ()
    problem: str = ""
    unread: int = 0
    """Cgroups in it that could not be read: no process in them was asked to end."""


@dataclass(slots=True)
class _Held:
    """A target whose directory is held open.

    What is done goes by the descriptor: once the cgroup is removed nothing more is reached, also
    where a launch has made another of the same name.
    """

    result: Result
    fd: int
    cause: Cause
    scope_record: ScopeRecord | None
    """As it was before; None where it is damaged."""
    earlier: Cause | None
    """Why it was being stopped before, by a stop that did not end."""
    signalled: set[int] = field(default_factory=set)
    members: list[End] | None = None
    """Its members as they were before the first signal; None where none was sent."""
    killed: dict[str, int] = field(default_factory=dict)
    """How many processes were killed, by leaf."""
    kill_at: float | None = None
    """When its grace is over, by time.monotonic(); None before the first signal."""
    give_up_at: float | None = None
    """When what was killed and still lives cannot be killed; None before the kill."""
    hidden: set[str] = field(default_factory=set)
    """Leaves in which something lived, and all of that where it could not be read."""

    @property
    def directory(self) -> str:
        """A path to the cgroup that was marked, and to no other."""
        return f"/proc/self/fd/{self.fd}"

    @property
    def uid(self) -> int:
        """Whose it is."""
        return os.fstat(self.fd).st_uid

    @property
    def leaf(self) -> str:
        """The name of the leaf where only one member is meant."""
        target = self.result.target
        return target.directory.rpartition("/")[2] if target.is_member else ""

    def path_of(self, leaf: str) -> str:
        """Return the directory of a leaf."""
        return self.directory if self.leaf else f"{self.directory}/{leaf}"

    def processes(self) -> dict[str, list[int]]:
        """Return its processes by directory.

        The first time, before any signal: note its members and how much could not be read, and
        leave word of why they end. So that is known where this process is killed, and their cgroup
        goes before anybody looks.
        """
        unread: list[cgroupfs.Unread] = []
        found = cgroupfs.processes_by_cgroup(self.directory, unread)
        if unread:
            cgroupfs.unlock(self.directory)
            unread.clear()
            found = cgroupfs.processes_by_cgroup(self.directory, unread)
        if self.members is None:
            self.result.unread = len(unread)
            if unread:
                by_leaf = observe.processes_by_leaf(self.directory, found, leaf=self.leaf)
                unseen = (leaf for leaf, pids in by_leaf.items() if not pids)
                self.hidden = {x for x in unseen if cgroupfs.is_populated(self.path_of(x))}
            self.members = self.observe(found)
            if self.uid == os.geteuid():
                scope = self.result.target.scope_directory[len(mount_point()) :]
                unseen_ends.announce(self.members, self.cause, scope)
        return found

    def observe(self, found: dict[str, list[int]] | None = None) -> list[End]:
        """Return its members as they are now; found are its processes, where that is known."""
        unit = self.result.target.unit
        return observe.members(
            self.directory, self.scope_record, unit, leaf=self.leaf, found=found, hidden=self.hidden
        )


def target_of(selected: Selected, grace: float | None = None) -> Target:
    """Return the target that a selection means; grace in seconds overrides the launch's own."""
    where = selected.member or selected.scope
    if grace is None:
        grace = grace_of(selected.scope.grace)
    return Target(where.directory, where.cgroup, grace)


def grace_of(microseconds: int | None) -> float:
    """Return the seconds of a grace as a record has it."""
    if microseconds is None:
        return GRACE
    return min(max(microseconds / 1e6, 0.0), LONGEST_GRACE)


def stop(
    targets: Sequence[Target],
    *,
    causes: Sequence[Cause],
    warnings: list[str],
    watched: Collection[str] = (),
    step_out: Callable[[], None],
) -> list[Result]:
    """Stop all targets at once and return what was proved of each, in their order.

    causes has one for each target; it is kept in the record while it ends, and in the history.
    Where a cause names no stopper, it is who called this program. What the caller should be told,
    although the stop went on, is added to warnings. watched are leaves of which somebody else
    will tell how they ended, if they had before. step_out is called where this process is in one of
    the targets, and has to get it out of there.
    """
    began, clock = time.monotonic(), time.time_ns() // 1000
    _allow_descriptors(len(targets))
    results = [Result(target) for target in targets]
    stop_witness.tidy()
    asker = observe.caller()
    with contextlib.ExitStack() as closing:
        held = []
        for result, cause in zip(results, causes, strict=True):
            fd = _open(result)
            if fd is None:
                continue
            closing.callback(os.close, fd)
            each = _take(result, fd, cause if cause.stopper else replace(cause, stopper=asker))
            if each is not None:
                held.append(each)
        if _is_inside([each.result.target for each in held]):
            step_out()
        by_directory = {each.directory: each for each in held}
        with EmptinessWatch(list(by_directory)) as watch:
            _end_all(by_directory, watch, began)
        for each in held:
            _judge(each)
            each.result.milliseconds = each.result.milliseconds or (time.monotonic() - began) * 1000
        # while systemd is at work to remove the cgroups
        ends: dict[int, list[End]] = {}
        for each in held:
            ends.setdefault(each.uid, []).extend(_ends(each, clock, watched))
        news, problems = recording.keep_for_users(ends)
        warnings += [problem for problem in problems if problem not in warnings]
        remove.remove([_emptied(each) for each in held if each.result.outcome != "remains"])
    recording.tell(news)  # now that it keeps systemd from nothing
    return results


def _allow_descriptors(targets: int) -> None:
    """Raise the soft limit of open files to what so many targets take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * targets + 64
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _open(result: Result) -> int | None:
    """Open a target's directory; None where it is gone, or may not be opened."""
    cgroupfs.gain_access(result.target.scope_directory)
    cgroupfs.gain_access(result.target.directory)
    try:
        return os.open(result.target.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in cgroupfs.GONE:
            result.outcome, result.problem = "refused", f"cannot open it: {error.strerror}"
        return None


def _take(result: Result, fd: int, cause: Cause) -> _Held | None:
    """Mark a target's record; None where there is nothing to stop, or where it is not ours to."""
    target, directory = result.target, f"/proc/self/fd/{fd}"
    leaf = target.directory.rpartition("/")[2] if target.is_member else ""
    before = record_of(target.scope_directory)
    earlier = stop_mark.cause(target.scope_directory, before.mark) if before is not None else None
    wanted = stop_mark.fields(cause)
    problem = stop_mark.put(directory, target.scope_directory, leaf, wanted, target.leaves)
    if problem == stop_mark.NOTHING:
        return None
    if problem == stop_mark.CHANGED:
        result.outcome, result.problem = "changed", problem
        return None
    if problem:
        result.outcome, result.problem = "refused", problem
        return None
    return _Held(result, fd, cause, before or record_of(target.scope_directory), earlier)


def record_of(scope_directory: str) -> ScopeRecord | None:
    """Return the record of a scope; None where there is none that can be used."""
    with contextlib.suppress(OSError, records.RecordError):
        raw = cgroupfs.attribute(scope_directory, records.ATTRIBUTE)
        return record_parser.scope(raw, scope_directory.rpartition("/")[2])
    return None


def _is_inside(targets: Sequence[Target]) -> bool:
    """Tell whether this process is in what is about to be stopped."""
    own = cgroupfs.path_of()
    return any(cgroupfs.is_inside(own, target.cgroup) for target in targets)


def _end_all(held: dict[str, _Held], watch: EmptinessWatch, began: float) -> None:
    """Have every process end, those too that are started meanwhile, each target at its own grace.

    Returns when nothing lives in any of them, but for what cannot be killed.
    """
    while left := [
        held[directory] for directory in watch.left if not _is_given_up(held[directory])
    ]:
        for each in left:
            _advance(each)
        next_step = min(each.give_up_at or each.kill_at or 0.0 for each in left)
        _wait(held, watch, min(max(next_step - time.monotonic(), 0.0), _AGAIN), began)


def _is_given_up(each: _Held) -> bool:
    return each.give_up_at is not None and time.monotonic() >= each.give_up_at


def _advance(each: _Held) -> None:
    """Ask what lives in a target to end; once its grace is over, kill it."""
    if each.give_up_at is not None:
        # cgroup.kill signals main threads: one that has ended leaves its process alive (Linux 6.18)
        cgroupfs.signal_processes(each.processes(), signal.SIGKILL)
    elif each.kill_at is None or time.monotonic() < each.kill_at:
        _send(each)
        if each.kill_at is None:
            each.kill_at = time.monotonic() + each.result.target.grace
    else:
        _kill(each)
        each.give_up_at = time.monotonic() + _KILL_SECONDS


def _send(each: _Held) -> None:
    """Send SIGTERM to whom it was not sent, and SIGCONT to those that are still there after it.

    A stopped process has to go on to end; one that runs is gone by the second look.
    """
    found = each.processes()
    if each.signalled:
        asked = {at: [pid for pid in pids if pid in each.signalled] for at, pids in found.items()}
        cgroupfs.signal_processes(asked, signal.SIGCONT)
        found = {at: [p for p in pids if p not in each.signalled] for at, pids in found.items()}
    reached = cgroupfs.signal_processes(found, signal.SIGTERM)
    if reached:
        each.signalled |= reached
        each.result.terminated += len(reached)
        each.result.outcome = "terminated"


def _wait(held: dict[str, _Held], watch: EmptinessWatch, seconds: float, began: float) -> None:
    """Wait, and note when each of those that end has ended."""
    before = set(watch.left)
    watch.wait(seconds)
    for directory in before - watch.left:
        held[directory].result.milliseconds = (time.monotonic() - began) * 1000


def _kill(each: _Held) -> None:
    found = each.processes()
    by_leaf = observe.processes_by_leaf(each.directory, found, leaf=each.leaf)
    each.killed = {leaf: len(pids) for leaf, pids in by_leaf.items()}
    each.result.killed = sum(map(len, found.values()))
    if each.result.killed or cgroupfs.is_populated(each.directory):
        each.result.outcome = "killed"
    cgroupfs.kill(each.directory)


def _judge(each: _Held) -> None:
    """Look once more, whatever was seen before: the proof is that nothing lives there now."""
    if cgroupfs.is_populated(each.directory):
        each.result.outcome = "remains"
        each.result.remaining = tuple(_remaining(pid) for pid in cgroupfs.processes(each.directory))


def _ends(each: _Held, began: int, watched: Collection[str]) -> Iterator[End]:
    """Yield what ended: those that lived by this stop, the others before it and unseen."""
    remains = each.result.outcome == "remains"
    ended = began + int(each.result.milliseconds * 1000)
    claim = stop_mark.claim(each.scope_record.mark) if each.scope_record is not None else ""
    for end in each.observe() if each.members is None else each.members:
        if remains and cgroupfs.is_populated(each.path_of(end.leaf)):
            continue
        if end.processes or end.leaf in each.hidden:
            yield observe.caused(end, each.cause, ended, each.killed.get(end.leaf, 0))
        elif end.leaf not in watched:
            yield observe.told(end, each.earlier, ended, claim)


def _emptied(each: _Held) -> remove.Emptied:
    target = each.result.target
    return remove.Emptied(target.directory, target.cgroup, target.scope_directory, each.fd)


def _remaining(pid: int) -> Remaining:
    def text(name: str) -> str:
        try:
            with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    stat = text("stat").rpartition(")")[2].split()
    command = text("cmdline").replace("\0", " ").strip() or text("comm").strip()
    return Remaining(pid, stat[0] if stat else "?", text("wchan") or "?", command)
