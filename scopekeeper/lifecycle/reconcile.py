"""Carries out a plan.

Before it stops a scope, it reads the scope again and plans again, so that it spares what came alive
or got a new owner meanwhile. It leaves a stop to the process that carries it out.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from scopekeeper.history import recording
from scopekeeper.history.end import End
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import (
    observe,
    stop,
    stop_in_progress,
    stop_mark,
    stop_target,
    unfinished_stops,
)
from scopekeeper.lifecycle.plan import Action, Step, Verdict, plan
from scopekeeper.lifecycle.stop_in_progress import StopInProgress
from scopekeeper.policy.rules import Policy
from scopekeeper.scope.model import Scope, Snapshot
from scopekeeper.scope.reason import Cause, Reason, Stopper
from scopekeeper.scope.selection import Selected
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd.units import epoch_of

_REASONS = {
    Verdict.ORPHAN: Reason.OWNER_GONE,
    Verdict.EXPIRED: Reason.TTL,
    Verdict.SUPERSEDED: Reason.SUPERSEDED,
    Verdict.IDLE: Reason.IDLE,
    Verdict.LEADERLESS: Reason.LEADER_EXITED,
    Verdict.ABANDONED: Reason.ABANDONED,
}

_CHANGED = "changed meanwhile"
_BEING_ENDED = "being ended"
_ENDED = "it has ended meanwhile"
_SPARED = "a second look spares it: it was adopted, or has changed"
_MAKING_SECONDS = 0.02
"""Longer than systemd takes from creating a scope to moving its first process in."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one action."""

    action: Action
    outcome: str
    """``kept``, ``reported``, ``removed``, ``being ended`` (by another process), ``changed
    meanwhile`` (at the second look there was nothing to do any more), or that of a stop."""
    result: stop_target.Result | None = None
    change: str = ""
    """What had changed meanwhile."""
    other: StopInProgress | None = None
    """The stop of another process that is ending it."""

    @property
    def is_settled(self) -> bool:
        """Whether no other process stops it, or one does for sure, and until when is known."""
        if self.change:
            return True
        if self.action.verdict is not Verdict.STOPPING or self.action.step is not Step.KEEP:
            return True
        return self.other is not None and self.other.is_sure


def apply(
    actions: Sequence[Action],
    policy: Policy,
    reader: Reader,
    snapshot: Snapshot,
    warnings: list[str],
    watched: Collection[str] | None = None,
    *,
    step_out: Callable[[], None],
    asker: Stopper | None = None,
) -> list[Done]:
    """Carry out a plan of a snapshot, after a second look; all stops run at once.

    Adds to warnings what the caller should report although everything was done. watched, step_out
    and asker are as for a stop.
    """
    done = []
    removals: list[Action] = []
    stops: list[tuple[Action, stop_target.Target]] = []
    runs: dict[tuple[str, str], list[Scope]] = {}
    for each in snapshot.scopes:
        if each.session_id:  # only such scopes supersede each other
            runs.setdefault((each.session, each.lane), []).append(each)
    for action in actions:
        if action.step is Step.STOP:
            afresh = _look_again(action, policy, reader, snapshot, runs)
            if isinstance(afresh, Done):
                done.append(afresh)
                continue
            stops.append((action, stop_target.target_of(afresh, as_judged=True)))
        elif action.step is Step.REMOVE:
            removals.append(action)
        else:
            if action.mark is not None:
                key, value = action.mark
                where = (action.member or action.scope).directory
                stop_mark.change(where, action.scope.directory, {key: value})
            done.append(untouched(action))
    # first, since nothing is known of them once their cgroups are gone
    problem = recording.record([end for action in removals for end in _ended(action, watched)])
    if problem:
        warnings.append(problem)
    done += [Done(action, _remove(action)) for action in removals]
    results = stop.stop(
        [target for _, target in stops],
        causes=[_cause(action) for action, _ in stops],
        warnings=warnings,
        watched=watched,
        step_out=step_out,
        asker=asker,
    )
    done += [
        Done(action, _CHANGED, result, result.problem)
        if result.outcome == "changed"
        else Done(action, result.outcome, result)
        for (action, _), result in zip(stops, results, strict=True)
    ]
    return done


def untouched(action: Action) -> Done:
    """Return what becomes of a scope or member that this process leaves as it is."""
    if action.verdict is not Verdict.STOPPING:
        return Done(action, "kept" if action.step is Step.KEEP else "reported")
    other = stop_in_progress.of(action)
    if other is None and not os.path.isdir((action.member or action.scope).directory):
        return Done(action, _CHANGED, change=_ENDED)  # the other one is done with it meanwhile
    return Done(action, "kept" if other is None else _BEING_ENDED, other=other)


def _look_again(
    action: Action,
    policy: Policy,
    reader: Reader,
    snapshot: Snapshot,
    runs: Mapping[tuple[str, str], Sequence[Scope]],
) -> Selected | Done:
    """Return the scope or member as it is now, if a new plan still stops the same.

    runs are the scopes of the snapshot that may supersede others, by session and lane.
    """
    scope = reader.again().scope(action.scope.directory, action.scope.uid)
    if scope is None or scope.inode != action.scope.inode:
        return Done(action, _CHANGED, change=_ENDED)
    wanted = action.member.member_id if action.member else None
    others = runs.get((scope.session, scope.lane), ()) if scope.session_id else ()
    others = [each for each in others if each.directory != scope.directory]
    afresh = dataclasses.replace(snapshot, scopes=(scope, *others))
    for again in plan(afresh, policy, only=scope):
        same = (again.member.member_id if again.member else None) == wanted
        if again.step is Step.STOP and same:
            return Selected(scope, again.member)
        if again.verdict is Verdict.ORPHAN and again.member is None:  # of several owners
            mine = [each for each in scope.members if each.member_id == wanted and each.lives]
            if mine:
                return Selected(scope, mine[0])
        is_stopped = again.verdict is Verdict.STOPPING and again.step is Step.KEEP
        if is_stopped and (same or again.member is None):
            return untouched(again)
    lives = (
        scope.lives
        if wanted is None
        else any(each.lives for each in scope.members if each.member_id == wanted)
    )
    return Done(action, _CHANGED, change=_SPARED if lives else _ENDED)


def _cause(action: Action) -> Cause:
    """Return the cause of a stop; of a stop already begun, its own cause."""
    if action.verdict is Verdict.STOPPING:
        stopped = (action.member or action.scope).directory
        return unfinished_stops.cause_begun(stopped) or Cause(Reason.UNKNOWN, action.evidence)
    return Cause(_REASONS[action.verdict], action.evidence)


def _ended(action: Action, watched: Collection[str] | None) -> list[End]:
    """Return the unwatched ends in what is about to be removed."""
    scope = action.scope
    if scope.elsewhere:  # ends of that container
        return []
    ends = observe.unseen(scope.directory, action.member.leaf if action.member else "")
    if watched is not None:
        return [end for end in ends if end.leaf not in watched]
    return [end for end in ends if not observe.is_left_to_keeper(end, scope.uid)]


def _remove(action: Action) -> str:
    scope = action.scope
    if action.member is None and scope.manager:
        return _let_go(scope)
    # only empty cgroups can be removed; a launch on its way in creates another
    emptied = (action.member or scope).directory
    return "removed" if cgroupfs.remove(emptied) else _CHANGED


def _let_go(scope: Scope) -> str:
    """Have systemd remove a scope that it keeps although it is empty."""
    from scopekeeper.errors import ManagerError
    from scopekeeper.systemd import calls

    life = epoch_of(mount_point(), scope.cgroup)
    time.sleep(_MAKING_SECONDS)
    if cgroupfs.is_populated(scope.directory):
        return _CHANGED
    try:
        was_loaded = calls.let_go(scope.manager, life, scope.directory)
    except ManagerError:
        return "left to systemd"
    return "removed" if was_loaded or cgroupfs.remove(scope.directory) else _CHANGED
