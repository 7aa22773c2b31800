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

from scopekeeper.data import replace
from scopekeeper.history import recording
from scopekeeper.history.end import End
from scopekeeper.kernel import cgroupfs, mounts, open_files
from scopekeeper.kernel.emptiness import EmptinessWatch
from scopekeeper.kernel.job_control import is_interactive_shell
from scopekeeper.kernel.proc import boottime
from scopekeeper.lifecycle import (
    leavers,
    observe,
    remove,
    stop_counts,
    stop_interrupted,
    stop_mark,
    stop_witness,
)
from scopekeeper.lifecycle.held_target import HeldTarget
from scopekeeper.lifecycle.stop_target import Result, Target
from scopekeeper.scope.reason import Cause, Reason, Stopper

_KILL_SECONDS = 5.0
"""Longer than any killable process takes; what is left then waits in the kernel (D state)."""
_AGAIN = 0.1
"""Seconds between looks for processes that were started after the signals were sent."""


def stop(
    targets: Sequence[Target],
    *,
    causes: Sequence[Cause],
    warnings: list[str],
    watched: Collection[str] | None = None,
    step_out: Callable[[], None],
    asker: Stopper | None = None,
    ends_escaped: bool = False,
    explained: set[str] | None = None,
) -> list[Result]:
    """Stop all targets at once and return what was proved of each, in their order.

    causes has one for each target, which goes into the record and the history. asker is the stopper
    of causes that name none; by default the process that called this program. Adds to warnings what
    the caller should report although the stop went on. watched are leaves whose ends the calling
    keeper reports if they ended before; None: a running keeper reports what nobody can explain.
    step_out is called if this process is in one of the targets, and must move it out. With
    ends_escaped, what had left the targets is ended too, where that is proved. Adds to explained
    the ids of members whose ends are in the history with their reason.
    """
    began, clock = time.monotonic(), time.time_ns() // 1000
    open_files.allow(2 * len(targets) + 64)
    results = [Result(target) for target in targets]
    stop_witness.tidy()
    asker = asker or observe.caller()
    held: list[HeldTarget] = []
    with stop_interrupted.noting(held), contextlib.ExitStack() as closing:
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
        notes = stop_counts.Notes()
        for each in held:
            _judge(each)
            each.count(notes)
            each.result.milliseconds = each.result.milliseconds or (time.monotonic() - began) * 1000
        _look_for_leavers(results, held, ends=ends_escaped)
        ends: dict[int, list[End]] = {}
        for each in held:
            ends.setdefault(each.uid, []).extend(_ends(each, clock, watched))
        news, problems = recording.keep_for_users(ends)
        warnings += [problem for problem in problems if problem not in warnings]
        if explained is not None and not problems:
            every = (end for found in ends.values() for end in found)
            explained |= {end.member_id for end in every if end.reason is not Reason.UNKNOWN}
        emptied = [each for each in held if each.result.outcome != "remains"]
        remove.remove([_emptied(each) for each in emptied])
        for each in emptied:
            each.result.problem = each.result.problem or remove.why_it_stays(_emptied(each))
    recording.tell(news)  # only now, to leave systemd its time before
    return results


def _open(result: Result) -> int | None:
    """Open a target's directory; None if it is gone or may not be opened."""
    for directory in dict.fromkeys((result.target.scope_directory, result.target.directory)):
        cgroupfs.gain_access(directory)
    try:
        return os.open(result.target.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in cgroupfs.GONE:
            result.outcome, result.problem = "refused", f"cannot open it: {error.strerror}"
        return None


def _take(result: Result, fd: int, cause: Cause) -> HeldTarget | None:
    """Mark a target's record; None if there is nothing to stop, or it is not ours to stop."""
    target, directory = result.target, f"/proc/self/fd/{fd}"
    inode = stop_counts.number_of(target.scope_directory)
    kill_at = boottime() + round(target.grace * 1e6)
    marked = stop_mark.put(
        directory, target.scope_directory, target.leaf, cause, target.judged, kill_at=kill_at
    )
    if marked.problem == stop_mark.NOTHING:
        return None
    if marked.problem:
        is_changed = marked.problem in (stop_mark.CHANGED, stop_mark.ADOPTED)
        result.outcome = "changed" if is_changed else "refused"
        result.problem = marked.problem
        return None
    return HeldTarget(result, fd, inode, marked.cause, marked.scope, marked.earlier)


def _is_inside(targets: Sequence[Target]) -> bool:
    """Return True if this process is in one of the targets."""
    own = cgroupfs.path_of()
    return any(mounts.is_within(own, target.cgroup) for target in targets)


def _end_all(held: dict[str, HeldTarget], watch: EmptinessWatch, began: float) -> None:
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


def _born_since(held: dict[str, HeldTarget]) -> dict[str, HeldTarget]:
    """Return the targets that were empty, and into which a child has been born meanwhile.

    The mark keeps launches out; nothing keeps the kernel from a birth in a place (launch.place).
    """
    return {
        directory: each
        for directory, each in held.items()
        if each.kill_at is None and cgroupfs.is_populated(directory)
    }


def _is_given_up(each: HeldTarget) -> bool:
    return each.give_up_at is not None and time.monotonic() >= each.give_up_at


def _advance(each: HeldTarget) -> None:
    """Send SIGTERM to what lives in a target; once its grace is over, kill it."""
    if each.give_up_at is not None:
        # cgroup.kill signals main threads: one that has ended leaves its process alive (Linux 6.18)
        cgroupfs.signal_processes(each.processes(), signal.SIGKILL)
    elif each.kill_at is None or time.monotonic() < each.kill_at:
        _send(each)
        if each.kill_at is None:
            each.kill_at = time.monotonic() + each.result.target.grace
    else:
        each.kill()
        each.give_up_at = time.monotonic() + _KILL_SECONDS


def _send(each: HeldTarget) -> None:
    """Send SIGTERM to new processes, and SIGCONT to those already signalled.

    A stopped process has to continue in order to end, and a frozen one is thawed. An interactive
    shell ignores SIGTERM: it is sent SIGHUP too, as when its terminal goes away.
    """
    found = each.processes()
    if each.signalled:
        asked = {at: [pid for pid in pids if pid in each.signalled] for at, pids in found.items()}
        cgroupfs.signal_processes(asked, signal.SIGCONT)
        found = {at: [p for p in pids if p not in each.signalled] for at, pids in found.items()}
    reached = cgroupfs.signal_processes(found, signal.SIGTERM)
    shells = {at: list(filter(is_interactive_shell, pids)) for at, pids in found.items()}
    cgroupfs.signal_processes(shells, signal.SIGHUP)
    cgroupfs.thaw(found)
    if reached:
        each.signalled |= reached
        each.result.terminated += len(reached)
        each.result.outcome = "terminated"


def _wait(held: dict[str, HeldTarget], watch: EmptinessWatch, seconds: float, began: float) -> None:
    """Wait, and note when each target has ended."""
    before = set(watch.left)
    watch.wait(seconds)
    for directory in before - watch.left:
        held[directory].note_usage()  # before systemd removes it
        held[directory].result.milliseconds = (time.monotonic() - began) * 1000


def _judge(each: HeldTarget) -> None:
    """Look once more, whatever was seen before: the proof is that nothing lives in it now."""
    if cgroupfs.is_populated(each.directory):
        each.result.outcome = "remains"
        each.result.remaining = tuple(
            observe.unkillable(pid) for pid in cgroupfs.processes(each.directory)
        )


def _look_for_leavers(results: Sequence[Result], held: Sequence[HeldTarget], *, ends: bool) -> None:
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


def _ends(each: HeldTarget, began: int, watched: Collection[str] | None) -> Iterator[End]:
    """Yield the ends: of living members by this stop, of the others earlier and unwatched."""
    remains = each.result.outcome == "remains"
    ended = began + int(each.result.milliseconds * 1000)
    claim = stop_mark.claim(each.scope_record.mark) if each.scope_record is not None else ""
    for end in each.observe() if each.members is None else each.members:
        leaf = end.leaf
        if remains and cgroupfs.is_populated(each.path_of(leaf)):
            continue
        if end.processes or leaf in each.hidden:
            processes, killed = each.lived.get(leaf, 0), each.killed.get(leaf, 0)
            caused = observe.caused(end, each.cause_of(leaf), ended, processes, killed)
            caused = replace(caused, cpu_usec=each.cpu_usec.get(leaf, end.cpu_usec))
            ended_too = [pair[0] for pair in each.result.ended_escaped]
            yield observe.with_leavers(caused, each.result.escaped, ended_too)
        elif watched is None or leaf not in watched:
            unwatched = observe.unwatched(end, each.earlier, ended, claim)
            if watched is not None or not observe.is_left_to_keeper(unwatched, each.uid):
                yield unwatched


def _emptied(each: HeldTarget) -> remove.Emptied:
    target = each.result.target
    return remove.Emptied(target.directory, target.cgroup, target.scope_directory, each.fd)
