"""When a scope or a member ends if nothing changes, by the plan of ``reconcile``. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence

from scopekeeper.lifecycle.plan import Action, Step, Verdict
from scopekeeper.scope.model import Liveness, Member, Scope

NEVER = math.inf
"""Nothing but a stop ends it."""
Moment = float | None
"""Microseconds of CLOCK_BOOTTIME; not later than now if a reconcile ends it now. None: unknown."""

_REPORTED = (Verdict.DAMAGED, Verdict.FOREIGN, Verdict.FORGED)
"""What is never ended, whatever becomes of its owner."""


def ends_of(scope: Scope, actions: Sequence[Action], now: int) -> dict[str, Moment]:
    """Return the moments of a scope and of each of its members, by directory.

    actions are those that the plan has for this scope.
    """
    whole = [_of_scope(each, now) for each in actions if each.member is None]
    is_at_work = any(each.member is None and _is_at_work(each) for each in actions)
    bounds = [each for each in (*whole, _ttl(scope, now)) if each is not None]
    members = {
        each.member.directory: _earliest([_of_member(each, now), *bounds])
        for each in actions
        if each.member is not None
    }
    for member in scope.members:  # the plan is about all of the scope
        members.setdefault(member.directory, _earliest([None, *bounds]))
    present = {each.directory for each in scope.present_members}
    moments = [moment for directory, moment in members.items() if directory in present]
    holders = {each.holder for each in scope.members}
    if not holders.issuperset(scope.strays):  # they stay when every member has ended
        moments.append(NEVER)
    last = _earliest([_latest(moments) if moments else None, *bounds])
    found = {scope.directory: last, **members}
    if is_at_work:  # it may yet be idle, and end earlier
        found = {key: None if moment == NEVER else moment for key, moment in found.items()}
    return found


def unstarted(actions: Sequence[Action], moments: Mapping[str, Moment]) -> frozenset[str]:
    """Return the directories of scopes and members whose moment counts from the next reconcile.

    That carries out these actions, and writes the mark from which their time counts.
    """
    found = set()
    for action in actions:
        if action.mark is None or _is_at_work(action):
            continue
        for directory in (action.scope.directory, (action.member or action.scope).directory):
            if moments.get(directory) == action.due:
                found.add(directory)
    return frozenset(found)


def _is_at_work(action: Action) -> bool:
    """Return whether it would end by being idle, and is not."""
    return action.due is not None and action.verdict is Verdict.OWNED


def _of_scope(action: Action, now: int) -> Moment:
    """Return when an action ends the whole scope; None if it leaves that to the members."""
    if action.step in (Step.STOP, Step.REMOVE) or action.verdict is Verdict.STOPPING:
        return now
    if action.verdict in _REPORTED:
        return NEVER
    return action.due if action.verdict is Verdict.IDLE else None


def _of_member(action: Action, now: int) -> Moment:
    if action.step in (Step.STOP, Step.REMOVE) or action.verdict is Verdict.STOPPING:
        return now
    if action.verdict in _REPORTED:
        return NEVER
    if action.verdict is Verdict.PLACED:
        return action.member.waits_until if action.member is not None else None
    if action.due is not None and not _is_at_work(action):
        return action.due
    return NEVER if action.member is not None and _needs_no_owner(action.member) else None


def _needs_no_owner(member: Member) -> bool:
    """Return whether no end of an owner is yet to come that could end it."""
    state = member.owner_state
    return member.lifetime == "detached" or (state is not None and state.liveness is Liveness.GONE)


def _ttl(scope: Scope, now: int) -> Moment:
    if scope.ttl is None:
        return None
    if scope.problem or scope.elsewhere or scope.claims is not None:
        return None  # no rule ends it
    return max(now + scope.ttl - scope.age * 1e6, now)


def _earliest(moments: Iterable[Moment]) -> Moment:
    """Return the first of the known moments: what is unknown or never may still come before."""
    known = [each for each in moments if each is not None]
    finite = [each for each in known if each != NEVER]
    if finite:
        return min(finite)
    return NEVER if known else None


def _latest(moments: Sequence[Moment]) -> Moment:
    """Return the last moment; unknown comes after all that are known, and never after that."""
    if NEVER in moments:
        return NEVER
    return None if None in moments else max(each for each in moments if each is not None)
