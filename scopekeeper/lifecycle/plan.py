"""Decides what should become of every scope. Pure: a snapshot and the rules in, actions out.

Times (a grace, an idle time) count from a mark in the record, which whoever carries out the plan
writes. There is no other state, so every planner counts the same.
"""

import enum
import math
from collections.abc import Iterator

from scopekeeper.data import dataclass
from scopekeeper.policy.rules import Policy, Rules
from scopekeeper.policy.values import FOREVER
from scopekeeper.quantities import show_duration
from scopekeeper.scope.activity import idle_since
from scopekeeper.scope.model import Member, Scope, Snapshot
from scopekeeper.scope.names import lane_class
from scopekeeper.scope.selection import is_owner

_BEGUN = "a stop of it was begun and not finished"


class Verdict(enum.Enum):
    """The state in which a scope or a member is found."""

    OWNED = "owned"
    KEPT = "kept"
    PLACED = "placed"
    ORPHAN = "orphan"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    IDLE = "idle"
    ABANDONED = "abandoned"
    LEADERLESS = "leaderless"
    EMPTY = "empty"
    GHOST = "ghost"
    FOREIGN = "foreign"
    DAMAGED = "damaged"
    FORGED = "forged"
    STOPPING = "stopping"


class Step(enum.Enum):
    """What is done about it."""

    KEEP = "keep"
    REPORT = "report"
    STOP = "stop"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Action:
    """One line of a plan; member is None if it is about the whole scope."""

    step: Step
    verdict: Verdict
    scope: Scope
    member: Member | None
    evidence: str
    mark: tuple[str, str] | None = None
    """A key and value to write into the record, so that time counts from now."""
    due: int | None = None
    """When a new plan may come to another step; microseconds of CLOCK_BOOTTIME."""


class _Rules:
    """The rules of a policy, each computed once."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rules: dict[tuple[str, str], Rules] = {}

    def of(self, scope: Scope, member: Member | None = None) -> Rules:
        """Return the rules for a scope, or for a member in it, which depend on its kind too."""
        key = (lane_class(scope.lane), member.kind if member else "")
        if key not in self._rules:
            self._rules[key] = self._policy.rules(*key)
        return self._rules[key]


def plan(snapshot: Snapshot, policy: Policy, *, owner: str | None = None) -> list[Action]:
    """Return what to do: at least one action for every scope in the snapshot.

    owner (a unit's name or a pid) restricts the plan to what belongs to that owner, so that one of
    several gateways can clean up behind itself.
    """
    all_rules = _Rules(policy)
    actions = []
    for scope in snapshot.scopes:
        found = list(_scope_actions(scope, snapshot, all_rules, owner))
        actions += [action for action in found if owner is None or _concerns(action, owner)]
    return actions


def _concerns(action: Action, owner: str) -> bool:
    members = action.scope.members if action.member is None else (action.member,)
    owners = [member.owner_state.owner for member in members if member.owner_state is not None]
    if not owners:
        owners = [action.scope.owner]
    return all(is_owner(each, owner) for each in owners)


def _scope_actions(
    scope: Scope, snapshot: Snapshot, all_rules: _Rules, owner: str | None
) -> Iterator[Action]:
    def whole(step: Step, verdict: Verdict, evidence: str) -> Action:
        return Action(step, verdict, scope, None, evidence)

    if scope.problem and not scope.is_stillborn:
        verdict = Verdict.DAMAGED if scope.damaged else Verdict.FOREIGN
        yield whole(Step.REPORT, verdict, scope.problem)
    elif scope.is_anothers:
        yield whole(Step.KEEP, Verdict.OWNED, "it was made in another container")
    elif not scope.lives:
        yield whole(Step.REMOVE, Verdict.EMPTY, _why_empty(scope, snapshot))
    elif scope.claims is not None:  # nothing else in a forged record is trusted either
        yield whole(Step.REPORT, Verdict.FORGED, scope.forgery)
    elif scope.stopper:
        yield whole(Step.KEEP, Verdict.STOPPING, _stopped_by(scope.stopper))
    elif scope.stopping:
        yield whole(Step.STOP, Verdict.STOPPING, _BEGUN)
    elif scope.has_expired:
        yield whole(Step.STOP, Verdict.EXPIRED, f"its {(scope.ttl or 0) / 1e6:g} s are over")
    elif superseded := _superseded(scope, snapshot, all_rules):
        yield from superseded
    else:
        yield from _living(scope, snapshot, all_rules, owner)


def _stopped_by(pid: int) -> str:
    """Return the evidence that only a record has; ``stop_in_progress`` knows what proves it."""
    return f"its record says that process {pid} stops it"


def _superseded(scope: Scope, snapshot: Snapshot, all_rules: _Rules) -> list[Action]:
    """Return the stop of a scope whose lane allows one run at a time, if a later run came.

    Members that do not belong to the later run's owner stay; returns nothing if none does.
    """
    newer = _newer_runs(scope, snapshot) if all_rules.of(scope).supersede else []
    yielding = scope.yielding([each.owner for each in newer])
    if yielding == ():
        return []
    evidence = f"the run {newer[0].session_id} came after it"
    if yielding is None:
        return [Action(Step.STOP, Verdict.SUPERSEDED, scope, None, evidence)]
    idle = _scope_idle(scope, snapshot, all_rules)
    if idle is not None and idle.step is Step.STOP:
        return [idle]  # the others too
    return [
        Action(Step.STOP, Verdict.SUPERSEDED, scope, member, evidence)
        if member in yielding
        else _member_action(scope, member, snapshot, all_rules)
        for member in scope.members
    ]


def _why_empty(scope: Scope, snapshot: Snapshot) -> str:
    is_loaded = snapshot.units is not None and scope.unit in snapshot.units
    if scope.elsewhere:
        return "no process lives in it, and the container that made it has ended"
    kept = scope.manager and is_loaded
    return "no process lives in it" + (", but systemd keeps it" if kept else "")


def _newer_runs(scope: Scope, snapshot: Snapshot) -> list[Scope]:
    newer = (
        s for s in snapshot.scopes if s.born > scope.born and not s.elsewhere and s.claims is None
    )
    return [n for n in newer if supersedes(n.session, n.lane, n.session_id, scope)]


def supersedes(session: str, lane: str, session_id: str, scope: Scope) -> bool:
    """Return True if a run of this session and lane supersedes the run of a scope.

    It replaces what yields to its owner there.
    """
    return (
        (scope.session, scope.lane) == (session, lane)
        and bool(scope.session_id and session_id)
        and scope.session_id != session_id
        and scope.lifetime == "gateway"
        and scope.claims is None
    )


def _living(
    scope: Scope, snapshot: Snapshot, all_rules: _Rules, owner: str | None
) -> Iterator[Action]:
    if not scope.present_members:
        evidence = f"{len(scope.strays)} processes outside of every member"
        yield Action(Step.REPORT, Verdict.FOREIGN, scope, None, evidence)
        return
    idle = _scope_idle(scope, snapshot, all_rules)
    if idle is not None:
        yield idle
        if idle.step is Step.STOP:
            return
    found = [_member_action(scope, member, snapshot, all_rules) for member in scope.members]
    living = [each for each in found if each.member is not None and each.member.lives]
    if scope.strays or not living or not all(_ends_an_orphan(each) for each in living):
        yield from found
        return
    evidence = "; ".join(dict.fromkeys(each.evidence for each in living))
    whole = Action(Step.STOP, Verdict.ORPHAN, scope, None, evidence)
    if owner is None or _concerns(whole, owner):
        yield whole
    else:  # several owners have ended, and this plan is for one of them
        yield from found


def _ends_an_orphan(action: Action) -> bool:
    return action.verdict is Verdict.ORPHAN and action.step is Step.STOP


def _member_action(scope: Scope, member: Member, snapshot: Snapshot, all_rules: _Rules) -> Action:
    if member.problem and not member.is_stillborn:
        return Action(Step.REPORT, Verdict.DAMAGED, scope, member, member.problem)
    if member.waits:
        evidence = "it waits for its first process"
        return Action(Step.KEEP, Verdict.PLACED, scope, member, evidence)
    if not member.lives:
        evidence = "its launch was killed" if member.is_stillborn else "it has ended"
        return Action(Step.REMOVE, Verdict.EMPTY, scope, member, evidence)
    if member.claims:
        evidence = f"its record says {member.claims}; its leaf is {member.leaf}"
        return Action(Step.REPORT, Verdict.FORGED, scope, member, evidence)
    if member.stopper:
        evidence = _stopped_by(member.stopper)
        return Action(Step.KEEP, Verdict.STOPPING, scope, member, evidence)
    if member.stopping:
        return Action(Step.STOP, Verdict.STOPPING, scope, member, _BEGUN)
    rules = all_rules.of(scope, member)
    found = [_orphan(scope, member, snapshot.now, rules)] if member.is_orphan else []
    if member.abandoned:
        found.append(_abandoned(scope, member, snapshot.now, rules))
    if not member.leader_lives:
        found.append(_leaderless(scope, member, snapshot.now, rules))
    if found:
        return min(found, key=_moment)
    if snapshot.units is not None and scope.manager and scope.unit not in snapshot.units:
        return Action(Step.REPORT, Verdict.GHOST, scope, member, "systemd has no such unit")
    idle = _idle(scope, member, snapshot.now, rules) if rules.idle_of == "member" else None
    if idle is not None:
        return idle
    state = member.owner_state
    verdict = Verdict.KEPT if member.is_kept else Verdict.OWNED
    return Action(Step.KEEP, verdict, scope, member, state.evidence if state else "")


def _moment(action: Action) -> float:
    """Return when an action stops something if nothing changes; infinity means never."""
    if action.step is Step.STOP:
        return 0
    return math.inf if action.due is None else action.due


def _orphan(scope: Scope, member: Member, now: int, rules: Rules) -> Action:
    evidence = member.owner_state.evidence if member.owner_state else ""
    if rules.orphans == "report":
        return Action(Step.REPORT, Verdict.ORPHAN, scope, member, evidence)
    grace = rules.orphan_grace if member.lifetime == "gateway" else rules.session_grace
    step, text, due = _after(grace, member.orphaned, now)
    mark = ("ORPHANED", str(now)) if due and member.orphaned is None else None
    if due:
        text += " unless it is adopted"
    return Action(step, Verdict.ORPHAN, scope, member, evidence + text, mark, due)


def _abandoned(scope: Scope, member: Member, now: int, rules: Rules) -> Action:
    step, text, due = _after(rules.abandoned_grace, member.abandoned_since, now)
    mark = ("ABANDONED", str(now)) if due and member.abandoned_since is None else None
    return Action(step, Verdict.ABANDONED, scope, member, member.abandoned + text, mark, due)


def _leaderless(scope: Scope, member: Member, now: int, rules: Rules) -> Action:
    left = len(member.pids)
    evidence = f"its command has ended, {left} process{' stays' if left == 1 else 'es stay'}"
    if rules.on_leader_exit == "linger" or member.lifetime == "detached":
        return Action(Step.REPORT, Verdict.LEADERLESS, scope, member, evidence)
    step, text, due = _after(rules.leader_grace, member.leaderless, now)
    mark = ("LEADERLESS", str(now)) if due and member.leaderless is None else None
    return Action(step, Verdict.LEADERLESS, scope, member, evidence + text, mark, due)


def _after(grace: int, since: int | None, now: int) -> tuple[Step, str, int | None]:
    """Return the step for a grace that began at ``since``, words about it, and when it ends."""
    if grace == 0:
        return Step.STOP, "", None
    if grace == FOREVER:
        return Step.KEEP, "; its lane keeps it", None
    due = (now if since is None else since) + grace
    if due <= now:
        return Step.STOP, f"; its grace of {show_duration(grace / 1e6)} is over", None
    return Step.KEEP, f"; ends in {show_duration((due - now) / 1e6)}", due


def _scope_idle(scope: Scope, snapshot: Snapshot, all_rules: _Rules) -> Action | None:
    """Return what the rule about idleness says of a whole scope; None if nothing."""
    rules = all_rules.of(scope)
    return _idle(scope, None, snapshot.now, rules) if rules.idle_of == "scope" else None


def _idle(scope: Scope, member: Member | None, now: int, rules: Rules) -> Action | None:
    """Return what the rule about idleness says of a scope, or of one member; None if nothing."""
    what = member or scope
    if rules.idle is None or what.activity is None or what.lifetime == "detached":
        return None
    since = idle_since(what.activity, what.idle_since, now)
    if since is None:
        cpu, written = what.activity
        mark = ("IDLE", f"{now} {cpu} {written}")
        due = now + rules.idle
        return Action(Step.KEEP, Verdict.OWNED, scope, member, "it is at work", mark, due)
    evidence = f"no CPU and no write for {show_duration((now - since) / 1e6)}"
    due = since + rules.idle
    if due <= now:
        return Action(Step.STOP, Verdict.IDLE, scope, member, evidence)
    return Action(Step.KEEP, Verdict.IDLE, scope, member, evidence, None, due)
