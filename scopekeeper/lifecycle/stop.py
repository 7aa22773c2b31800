"""Ends scopes and members, many at once, and proves it.

Mark the record, so that no launch joins any more → SIGTERM, to interactive shells SIGHUP too, then
SIGCONT → wait for ``populated 0`` up to the grace → ``cgroup.kill`` → verify → write the history →
have the cgroup removed, by systemd or by us.

Killing is by cgroup, or by a pidfd whose cgroup was read after it was opened: never by pid.
Nothing is stopped without a record that we can read.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from scopekeeper.history import recording
from scopekeeper.history.end import End
from scopekeeper.kernel import cgroupfs, mounts, open_files
from scopekeeper.kernel.emptiness import EmptinessWatch
from scopekeeper.kernel.job_control import is_interactive_shell
from scopekeeper.kernel.proc import boottime, mount_point
from scopekeeper.lifecycle import (
    leavers,
    observe,
    remove,
    stop_kills,
    stop_mark,
    stop_witness,
    unseen_ends,
)
from scopekeeper.lifecycle.stop_target import Result, Target
from scopekeeper.scope.reason import Cause, Stopper
from scopekeeper.scope.record_parser import ScopeRecord

_KILL_SECONDS = 5.0
"""Longer than any killable process takes; what is left then waits in the kernel (D state)."""
_AGAIN = 0.1
"""Seconds between looks for processes that were started after the signals were sent."""


@dataclass(slots=True)
class _Held:
    """A target whose directory is held open.

    All is done by the descriptor: once the cgroup is removed it reaches nothing, not even a new one
    of the same name.
    """

    result: Result
    fd: int
    scope_inode: int
    """Of the scope's cgroup, also if the target is a member; 0 if that is gone."""
    cause: Cause
    scope_record: ScopeRecord | None
    """As it was before this stop; None if damaged."""
    earlier: Cause | None
    """The cause of an earlier stop that did not finish."""
    signalled: set[int] = field(default_factory=set)
    members: list[End] | None = None
    """Its members before the first signal; None if none was sent."""
    seen: dict[str, set[int]] = field(default_factory=dict)
    """The processes found in it since the stop began, by leaf; under '' all of them."""
    killed: dict[str, int] = field(default_factory=dict)
    """How many of these were killed, by leaf."""
    kill_at: float | None = None
    """When its grace is over, by time.monotonic(); None before the first signal."""
    give_up_at: float | None = None
    """When what still lives counts as unkillable; None before the kill."""
    hidden: set[str] = field(default_factory=set)
    """Leaves whose living processes could all not be read."""
    children: leavers.Children = field(default_factory=dict)
    """Children outside of it that its processes had before the first signal."""

    @property
    def directory(self) -> str:
        """A path to the marked cgroup, and to no other."""
        return f"/proc/self/fd/{self.fd}"

    @property
    def uid(self) -> int:
        """The uid that owns it."""
        return os.fstat(self.fd).st_uid

    @property
    def leaf(self) -> str:
        """The name of the leaf if the target is a member, else ''."""
        return self.result.target.leaf

    def path_of(self, leaf: str) -> str:
        """Return the directory of a leaf."""
        return self.directory if self.leaf else f"{self.directory}/{leaf}"

    def processes(self) -> dict[str, list[int]]:
        """Return its processes by directory.

        The first call, before any signal, notes the members, children elsewhere and how much could
        not be read, and writes the cause to the ledger, in case this process is killed.
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
            pids = [pid for inside in found.values() for pid in inside]
            self.children = leavers.children_outside(pids, self.result.target.cgroup)
            self.members = self.observe(found)
            if self.uid == os.geteuid():
                scope = self.result.target.scope_directory[len(mount_point()) :]
                self.members += self._unrecorded(found, scope)
                unseen_ends.announce(self.members, self.cause, scope)
        for leaf, pids in observe.processes_by_leaf(self.directory, found, leaf=self.leaf).items():
            self.seen.setdefault(leaf, set()).update(pids)
        self.seen.setdefault("", set()).update(pid for inside in found.values() for pid in inside)
        return found

    def _unrecorded(self, found: dict[str, list[int]], scope: str) -> list[End]:
        """Return living members with a damaged record, as their launch described them.

        scope is the path of the scope's cgroup. A process of the same user may have written that:
        it names the row in that user's history, nothing else.
        """
        observed = {end.leaf for end in self.members or ()}
        by_leaf = observe.processes_by_leaf(self.directory, found, leaf=self.leaf)
        missing = {leaf: pids for leaf, pids in by_leaf.items() if pids and leaf not in observed}
        launched = unseen_ends.launched(scope) if missing else {}
        return [
            observe.measured(end, self.path_of(leaf), pids, end.pid if end.pid in pids else None)
            for leaf, pids in missing.items()
            if (end := launched.get(leaf)) is not None
        ]

    def observe(self, found: dict[str, list[int]] | None = None) -> list[End]:
        """Return its members as they are now; found has its processes, if read already."""
        unit = self.result.target.unit
        return observe.members(
            self.directory, self.scope_record, unit, leaf=self.leaf, found=found, hidden=self.hidden
        )


def stop(
    targets: Sequence[Target],
    *,
    causes: Sequence[Cause],
    warnings: list[str],
    watched: Collection[str] = (),
    step_out: Callable[[], None],
    asker: Stopper | None = None,
    ends_escaped: bool = False,
) -> list[Result]:
    """Stop all targets at once and return what was proved of each, in their order.

    causes has one for each target, for the record and the history. asker is the stopper of causes
    that name none; by default the process that called this program. Adds to warnings what the
    caller should report. watched are leaves whose ends somebody else reports if they ended before.
    step_out is called if this process is in one of the targets, and must move it out. With
    ends_escaped, what had left the targets is ended too, where that is proved.
    """
    began, clock = time.monotonic(), time.time_ns() // 1000
    open_files.allow(2 * len(targets) + 64)
    results = [Result(target) for target in targets]
    stop_witness.tidy()
    asker = asker or observe.caller()
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
        for each in held:
            each.processes()  # before any signal: the end of one can end another
        by_directory = {each.directory: each for each in held}
        while by_directory:
            with EmptinessWatch(list(by_directory)) as watch:
                _end_all(by_directory, watch, began)
            by_directory = _born_since(by_directory)
        kills = stop_kills.Kills()
        for each in held:
            _judge(each)
            _count(each, kills)
            each.result.milliseconds = each.result.milliseconds or (time.monotonic() - began) * 1000
        _look_for_leavers(results, held, ends=ends_escaped)
        ends: dict[int, list[End]] = {}
        for each in held:
            ends.setdefault(each.uid, []).extend(_ends(each, clock, watched))
        news, problems = recording.keep_for_users(ends)
        warnings += [problem for problem in problems if problem not in warnings]
        emptied = [each for each in held if each.result.outcome != "remains"]
        remove.remove([_emptied(each) for each in emptied])
        for each in emptied:
            each.result.problem = each.result.problem or remove.why_it_stays(_emptied(each))
    recording.tell(news)  # only now, to leave systemd its time before
    return results


def _open(result: Result) -> int | None:
    """Open a target's directory; None if it is gone or may not be opened."""
    cgroupfs.gain_access(result.target.scope_directory)
    cgroupfs.gain_access(result.target.directory)
    try:
        return os.open(result.target.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in cgroupfs.GONE:
            result.outcome, result.problem = "refused", f"cannot open it: {error.strerror}"
        return None


def _take(result: Result, fd: int, cause: Cause) -> _Held | None:
    """Mark a target's record; None if there is nothing to stop, or it is not ours to stop."""
    target, directory = result.target, f"/proc/self/fd/{fd}"
    before = stop_mark.record_of(target.scope_directory)
    earlier = stop_mark.cause(target.scope_directory, before.mark) if before is not None else None
    inode = stop_kills.number_of(target.scope_directory)
    wanted = stop_mark.fields(cause)
    kill_at = boottime() + round(target.grace * 1e6)
    problem = stop_mark.put(
        directory, target.scope_directory, target.leaf, wanted, target.judged, kill_at=kill_at
    )
    if problem == stop_mark.NOTHING:
        return None
    if problem in (stop_mark.CHANGED, stop_mark.ADOPTED):
        result.outcome, result.problem = "changed", problem
        return None
    if problem:
        result.outcome, result.problem = "refused", problem
        return None
    return _Held(
        result, fd, inode, cause, before or stop_mark.record_of(target.scope_directory), earlier
    )


def _is_inside(targets: Sequence[Target]) -> bool:
    """Return True if this process is in one of the targets."""
    own = cgroupfs.path_of()
    return any(mounts.is_within(own, target.cgroup) for target in targets)


def _end_all(held: dict[str, _Held], watch: EmptinessWatch, began: float) -> None:
    """End every process, also those started meanwhile, with each target's own grace.

    Returns when nothing lives in any target except what cannot be killed.
    """
    while left := [
        each
        for directory, each in held.items()  # in their order: launchers come first
        if directory in watch.left and not _is_given_up(each)
    ]:
        for each in left:
            _advance(each)
        next_step = min(each.give_up_at or each.kill_at or 0.0 for each in left)
        _wait(held, watch, min(max(next_step - time.monotonic(), 0.0), _AGAIN), began)


def _born_since(held: dict[str, _Held]) -> dict[str, _Held]:
    """Return the targets that were empty, and into which a child has been born meanwhile.

    The mark keeps launches out; nothing keeps the kernel from a birth in a place (launch.place).
    """
    return {
        directory: each
        for directory, each in held.items()
        if each.kill_at is None and cgroupfs.is_populated(directory)
    }


def _is_given_up(each: _Held) -> bool:
    return each.give_up_at is not None and time.monotonic() >= each.give_up_at


def _advance(each: _Held) -> None:
    """Send SIGTERM to what lives in a target; once its grace is over, kill it."""
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
    """Send SIGTERM to new processes, and SIGCONT to those already signalled.

    A stopped process has to continue in order to end. An interactive shell ignores SIGTERM: it is
    sent SIGHUP too, as when its terminal goes away.
    """
    found = each.processes()
    if each.signalled:
        asked = {at: [pid for pid in pids if pid in each.signalled] for at, pids in found.items()}
        cgroupfs.signal_processes(asked, signal.SIGCONT)
        found = {at: [p for p in pids if p not in each.signalled] for at, pids in found.items()}
    reached = cgroupfs.signal_processes(found, signal.SIGTERM)
    shells = {at: list(filter(is_interactive_shell, pids)) for at, pids in found.items()}
    cgroupfs.signal_processes(shells, signal.SIGHUP)
    if reached:
        each.signalled |= reached
        each.result.terminated += len(reached)
        each.result.outcome = "terminated"


def _wait(held: dict[str, _Held], watch: EmptinessWatch, seconds: float, began: float) -> None:
    """Wait, and note when each target has ended."""
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
    # before it: another stop of the same target reports what it finds here
    stop_kills.note(each.scope_inode, each.fd, each.killed)
    cgroupfs.kill(each.directory)


def _judge(each: _Held) -> None:
    """Look once more, whatever was seen before: the proof is that nothing lives in it now."""
    if cgroupfs.is_populated(each.directory):
        each.result.outcome = "remains"
        each.result.remaining = tuple(
            observe.unkillable(pid) for pid in cgroupfs.processes(each.directory)
        )


def _count(each: _Held, kills: stop_kills.Kills) -> None:
    """Count what was seen in it, and what another stop of it has killed meanwhile."""
    of_others = kills.of(each.scope_inode)
    for end in each.members or ():
        if of_others.get(end.leaf, 0) > each.killed.get(end.leaf, 0):
            each.killed[end.leaf] = of_others[end.leaf]
    result = each.result
    result.killed = max(result.killed, sum(each.killed.values()))
    result.processes = max(len(each.seen.get("", ())), result.killed)
    if result.killed and result.outcome == "terminated":
        result.outcome = "killed"
    elif result.processes and result.outcome == "empty":
        result.outcome = "terminated"  # they ended with what got the signal


def _look_for_leavers(results: Sequence[Result], held: Sequence[_Held], *, ends: bool) -> None:
    """Note what has left each target that is gone, and lives on; with ends, end it."""
    children = {id(each.result): each.children for each in held}
    gone = [each for each in results if each.outcome in ("empty", "terminated", "killed")]
    places = {each.target: children.get(id(each), {}) for each in gone}
    others = os.geteuid() == 0 and any(each.uid for each in held)
    uid = None if others else os.geteuid()
    found = leavers.left(places, uid)
    for each in gone:
        each.escaped = found[each.target]
    if ends:
        leavers.end(gone, uid)


def _ends(each: _Held, began: int, watched: Collection[str]) -> Iterator[End]:
    """Yield the ends: of living members by this stop, of the others earlier and unwatched."""
    remains = each.result.outcome == "remains"
    ended = began + int(each.result.milliseconds * 1000)
    claim = stop_mark.claim(each.scope_record.mark) if each.scope_record is not None else ""
    for end in each.observe() if each.members is None else each.members:
        if remains and cgroupfs.is_populated(each.path_of(end.leaf)):
            continue
        if end.processes or end.leaf in each.hidden:
            processes = len(each.seen.get(end.leaf, ()))
            killed = each.killed.get(end.leaf, 0)
            caused = observe.caused(end, each.cause, ended, processes, killed)
            ended_too = [pair[0] for pair in each.result.ended_escaped]
            yield observe.with_leavers(caused, each.result.escaped, ended_too)
        elif end.leaf not in watched:
            yield observe.unwatched(end, each.earlier, ended, claim)


def _emptied(each: _Held) -> remove.Emptied:
    target = each.result.target
    return remove.Emptied(target.directory, target.cgroup, target.scope_directory, each.fd)
