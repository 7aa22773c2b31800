"""Decides what should become of every scope, and does it.

``plan`` is pure: a snapshot and a policy in, actions out, each with its class and evidence.
``apply`` does them; before it ends anything it reads that scope afresh and plans again, so that
what came alive or changed hands meanwhile is spared.
"""

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scopekeeper import cgroup, stop
from scopekeeper.model import Member, Scope, Snapshot
from scopekeeper.selection import Selected, is_owner
from scopekeeper.snapshot import Reader


class Verdict(enum.Enum):
    """What a scope or a member is found to be."""

    OWNED = "owned"
    ORPHAN = "orphan"
    EXPIRED = "expired"
    LEADERLESS = "leaderless"
    EMPTY = "empty"
    GHOST = "ghost"
    FOREIGN = "foreign"
    STOPPING = "stopping"


class Step(enum.Enum):
    """What is done about it."""

    KEEP = "keep"
    REPORT = "report"
    STOP = "stop"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do with what is nobody's any more."""

    orphans: Step = Step.STOP
    leaderless: Step = Step.REPORT


@dataclass(frozen=True, slots=True)
class Action:
    """One line of a plan; member is None where the scope is meant whole."""

    step: Step
    verdict: Verdict
    scope: Scope
    member: Member | None
    evidence: str


def plan(snapshot: Snapshot, policy: Policy, *, owner: str | None = None) -> list[Action]:
    """Return what to do, for every scope in the snapshot at least one line.

    owner (a unit's name or a pid) leaves out what belongs to others, so that one of several
    gateways can clean up behind itself.
    """
    actions = []
    for scope in snapshot.scopes:
        found = list(_scope_actions(scope, snapshot, policy))
        actions += [action for action in found if owner is None or _concerns(action, owner)]
    return actions


def _concerns(action: Action, owner: str) -> bool:
    members = action.scope.members if action.member is None else (action.member,)
    owners = [member.owner_state.owner for member in members if member.owner_state is not None]
    if not owners:
        owners = [action.scope.owner]
    return all(is_owner(each, owner) for each in owners)


def _scope_actions(scope: Scope, snapshot: Snapshot, policy: Policy) -> Iterator[Action]:
    def whole(step: Step, verdict: Verdict, evidence: str) -> Action:
        return Action(step, verdict, scope, None, evidence)

    if scope.problem and not _is_stillborn(scope):
        yield whole(Step.REPORT, Verdict.FOREIGN, scope.problem)
    elif scope.elsewhere:
        yield whole(Step.KEEP, Verdict.OWNED, "it was made in another container")
    elif not scope.pids:
        yield _empty(scope, snapshot)
    elif scope.stopping:
        yield whole(Step.STOP, Verdict.STOPPING, "a stop of it was begun and did not end")
    elif _has_expired(scope):
        yield whole(Step.STOP, Verdict.EXPIRED, f"its {(scope.ttl or 0) / 1e6:g} s are over")
    else:
        yield from _living(scope, snapshot, policy)


def _is_stillborn(scope: Scope) -> bool:
    """Tell whether a scope's launch was killed before it wrote the record, and left nothing."""
    return scope.unrecorded and bool(scope.manager) and not scope.pids


def _has_expired(scope: Scope) -> bool:
    return scope.ttl is not None and scope.lifetime != "detached" and scope.age > scope.ttl / 1e6


def _empty(scope: Scope, snapshot: Snapshot) -> Action:
    if scope.manager:
        known = snapshot.units is not None and scope.unit in snapshot.units
        evidence = "no process lives in it" + (", but systemd keeps it" if known else "")
    else:
        evidence = "no process lives in it"
    return Action(Step.REMOVE, Verdict.EMPTY, scope, None, evidence)


def _living(scope: Scope, snapshot: Snapshot, policy: Policy) -> Iterator[Action]:
    living = scope.living_members
    orphans = [member for member in living if not member.problem and member.is_orphan]
    if orphans and len(orphans) == len(living) and not scope.strays:
        yield _orphan(scope, None, orphans, policy)
        return
    if not living:
        evidence = f"{len(scope.strays)} processes outside of every member"
        yield Action(Step.REPORT, Verdict.FOREIGN, scope, None, evidence)
        return
    for member in scope.members:
        if member.problem:
            yield Action(Step.REPORT, Verdict.FOREIGN, scope, member, member.problem)
        elif not member.pids:
            yield Action(Step.REMOVE, Verdict.EMPTY, scope, member, "it has ended")
        elif member.is_orphan:
            yield _orphan(scope, member, [member], policy)
        elif not member.leader_lives:
            evidence = f"its command has ended, {len(member.pids)} processes stay"
            yield Action(policy.leaderless, Verdict.LEADERLESS, scope, member, evidence)
        elif snapshot.units is not None and scope.manager and scope.unit not in snapshot.units:
            yield Action(Step.REPORT, Verdict.GHOST, scope, member, "systemd has no such unit")
        else:
            state = member.owner_state
            yield Action(Step.KEEP, Verdict.OWNED, scope, member, state.evidence if state else "")


def _orphan(scope: Scope, member: Member | None, orphans: list[Member], policy: Policy) -> Action:
    evidence = "; ".join(
        dict.fromkeys(orphan.owner_state.evidence for orphan in orphans if orphan.owner_state)
    )
    outlives = any(orphan.lifetime != "gateway" for orphan in orphans)
    if outlives:
        evidence += "; its lifetime outlives its gateway"
    return Action(
        Step.KEEP if outlives else policy.orphans, Verdict.ORPHAN, scope, member, evidence
    )


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one action."""

    action: Action
    outcome: str
    """``kept``, ``reported``, ``removed``, ``changed meanwhile``, or that of a stop."""
    result: stop.Result | None = None


def apply(actions: Sequence[Action], policy: Policy, reader: Reader) -> list[Done]:
    """Do what a plan says, after a second look; stops run all at once."""
    done = []
    stops: list[tuple[Action, stop.Target]] = []
    for action in actions:
        if action.step is Step.STOP:
            if _still_holds(action, policy, reader):
                stops.append((action, stop.target_of(Selected(action.scope, action.member))))
            else:
                done.append(Done(action, "changed meanwhile"))
        elif action.step is Step.REMOVE:
            done.append(Done(action, _remove(action)))
        else:
            done.append(Done(action, "kept" if action.step is Step.KEEP else "reported"))
    results = stop.stop(
        [target for _, target in stops],
        reasons=[f"{action.verdict.value}: {action.evidence}" for action, _ in stops],
    )
    done += [
        Done(action, result.outcome, result)
        for (action, _), result in zip(stops, results, strict=True)
    ]
    return done


def _still_holds(action: Action, policy: Policy, reader: Reader) -> bool:
    scope = Reader(reader.mount).scope(action.scope.directory, action.scope.uid)
    if scope is None or scope.created != action.scope.created:
        return False
    wanted = action.member.member_id if action.member else None
    return any(
        again.step is Step.STOP and (again.member.member_id if again.member else None) == wanted
        for again in plan(Snapshot((scope,)), policy)
    )


def _remove(action: Action) -> str:
    scope = action.scope
    if action.member is None and scope.manager:
        return _let_go(scope)
    # only empty cgroups can be removed; a launch on its way into this one makes itself another
    emptied = (action.member or scope).directory
    return "removed" if cgroup.remove(emptied) else "changed meanwhile"


def _let_go(scope: Scope) -> str:
    """Have systemd remove a scope that it keeps although nothing lives in it."""
    from scopekeeper import systemd
    from scopekeeper.errors import ManagerError

    if cgroup.is_populated(scope.directory):
        return "changed meanwhile"
    try:
        known = systemd.stop_unit(scope.manager, scope.unit)
    except ManagerError:
        return "left to systemd"
    return "removed" if known or cgroup.remove(scope.directory) else "changed meanwhile"


def state_of(scope: Scope) -> str:
    """Return the one word that ``ls`` shows for a scope."""
    if scope.problem and not _is_stillborn(scope):
        return "foreign"
    if not scope.pids:
        return "empty"
    if scope.stopping:
        return "stopping"
    if scope.elsewhere:
        return "running"
    if _has_expired(scope):
        return "expired"
    living = [member for member in scope.living_members if not member.problem]
    if living and all(member.is_orphan for member in living):
        return "orphan"
    if living and not any(member.leader_lives for member in living):
        return "leaderless"
    return "running"
