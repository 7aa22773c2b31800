"""When something ends is what the plan of reconcile does at that moment, and not before."""

import dataclasses
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_plan import SCOPES, policies, policy_of

from scopekeeper.cli.ends import Ends, coarse
from scopekeeper.lifecycle.ends import NEVER, ends_of
from scopekeeper.lifecycle.plan import Step, Verdict, plan
from scopekeeper.policy.rules import Policy
from scopekeeper.policy.values import FOREVER
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope, Snapshot

NOW = 200_000_000
MARKS = {"ORPHANED": "orphaned", "LEADERLESS": "leaderless", "ABANDONED": "abandoned_since"}


def marked(scope, actions):
    """Return a scope with the marks that reconcile writes when it carries out a plan."""
    members = {each.directory: each for each in scope.members}
    for action in actions:
        if action.mark is None:
            continue
        key, text = action.mark
        if key == "IDLE":
            change = {"idle_since": tuple(map(int, text.split()))}
        else:
            change = {MARKS[key]: int(text)}
        if action.member is None:
            scope = dataclasses.replace(scope, **change)
        else:
            found = members[action.member.directory]
            members[found.directory] = dataclasses.replace(found, **change)
    return dataclasses.replace(scope, members=tuple(members.values()))


def ended(scope, policy, now, passed):
    """Return what a reconcile ends that long after the first look, with nothing changed."""
    later = dataclasses.replace(scope, age=scope.age + passed / 1e6)
    over = set()
    for action in plan(Snapshot((later,), now + passed), policy):
        if action.step in (Step.STOP, Step.REMOVE):
            over |= {m.directory for m in (action.member and (action.member,)) or scope.members}
            over |= set() if action.member else {scope.directory}
    return over


@st.composite
def scopes(draw):
    """A scope that nobody is stopping: what a stop does is no rule's doing."""
    scope = draw(SCOPES)
    members = [dataclasses.replace(m, directory=f"/sys/fs/cgroup/x/m-{at}", stopping=False)
               for at, m in enumerate(scope.members)]  # fmt: skip
    return dataclasses.replace(scope, members=tuple(members), stopper=0)


@given(scopes(), policies())
def test_it_ends_at_that_moment_and_not_before_and_never_is_never(scope, policy):
    actions = plan(Snapshot((scope,), NOW), policy)
    moments = ends_of(scope, actions, NOW)
    assert moments.keys() == {scope.directory, *(member.directory for member in scope.members)}
    may_be_idle = any(each.due and each.verdict is Verdict.OWNED for each in actions)
    scope = marked(scope, actions)
    for member in scope.present_members:
        moment = moments[member.directory]
        if moment == NEVER:
            assert member.directory not in ended(scope, policy, NOW, 10**12)
        elif moment is not None:
            left = round(moment) - NOW
            # a time to live is over a microsecond later
            assert any(member.directory in ended(scope, policy, NOW, left + at) for at in (0, 1))
            if left > 1 and not may_be_idle:  # else it is the last moment at which it ends
                assert member.directory not in ended(scope, policy, NOW, left - 2)


@given(scopes(), policies())
def test_a_scope_ends_with_the_last_in_it(scope, policy):
    moments = ends_of(scope, plan(Snapshot((scope,), NOW), policy), NOW)
    inside = [moments[member.directory] for member in scope.present_members]
    last = moments[scope.directory]
    if last is not None and inside and not scope.strays:
        assert None not in inside or last == NEVER
        assert all(each is None or each <= last for each in inside)


def member(state, lifetime, **known):
    owner = OwnerState(Owner(pid=4211, start_time=1), state, "seen")
    said = {"kind": "pty", "leader_lives": True, "pids": (10,), "owner_state": owner} | known
    return Member("x", "0" * 8, "/x/m", "/x/m", lifetime=lifetime, **said)


def scope_of(*members, **known):
    return Scope("scopekeeper-s-main.scope", "/x", "/x", known.pop("uid", 0), "s", "main",
                 lifetime=members[0].lifetime, members=members, **known)  # fmt: skip


@pytest.fixture(autouse=True)
def as_root(monkeypatch, tmp_path):
    monkeypatch.setattr("os.getuid", lambda: 0)
    monkeypatch.setattr("scopekeeper.cli.ends._policy", Policy)
    monkeypatch.setattr("scopekeeper.cli.ends._keeper_runs", lambda: True)


@pytest.mark.parametrize(
    ("scope", "state", "words"),
    [
        (scope_of(member(Liveness.ALIVE, "gateway")), "running", "-"),
        (scope_of(member(Liveness.GONE, "gateway")), "orphan", "now"),
        (scope_of(member(Liveness.GONE, "session")), "kept", "in 1d"),
        (scope_of(member(Liveness.GONE, "session", orphaned=1)), "kept", "in 23h"),
        (scope_of(member(Liveness.GONE, "session", orphaned=-86_400_000_000)), "orphan", "now"),
        (scope_of(member(Liveness.GONE, "detached")), "kept", "never"),
        (scope_of(member(Liveness.ALIVE, "detached")), "running", "never"),
        (scope_of(member(Liveness.UNKNOWN, "gateway")), "running", "-"),
        (scope_of(member(Liveness.GONE, "gateway", pids=(), holder=7), strays=(7,)), "placed", "-"),
        (scope_of(member(Liveness.GONE, "detached", pids=(), holder=7), strays=(7,)), "placed",
         "-"),
        (scope_of(member(Liveness.ALIVE, "gateway"), ttl=60_000_000, age=15), "running", "in 45s"),
        (scope_of(member(Liveness.ALIVE, "detached"), ttl=60_000_000, age=15), "running", "in 45s"),
        (scope_of(member(Liveness.GONE, "detached"), ttl=60_000_000, age=61), "expired", "now"),
        (scope_of(member(Liveness.ALIVE, "gateway"), strays=(7,)), "running", "never"),
        (scope_of(member(Liveness.GONE, "gateway"), uid=1000), "orphan", "-"),
    ],
)  # fmt: skip
def test_what_is_meant_to_outlive_its_starter_is_kept_and_says_until_when(scope, state, words):
    ends = Ends(Snapshot((scope,), 3_600_000_000))
    assert (ends.state(scope), ends.words(scope)) == (state, words)
    seconds = ends.seconds(scope)
    shown = {"now": "now", "never": "never", "-": None}.get(words, "later")
    assert ends.document(scope) == {
        "ends": shown,
        "ends_in_s": None if seconds in (None, math.inf) else round(seconds, 3),
        "ends_after_reconcile": words.endswith("after reconcile"),
    }


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (scope_of(member(Liveness.GONE, "session")), "1d after reconcile"),
        (scope_of(member(Liveness.GONE, "session", orphaned=1)), "in 23h"),
        (scope_of(member(Liveness.ALIVE, "gateway", kind="mcp", leader_lives=False)),
         "10s after reconcile"),
        (scope_of(member(Liveness.ALIVE, "gateway", kind="mcp", leader_lives=False,
                         leaderless=3_600_000_000)), "in 10s"),
        (scope_of(member(Liveness.GONE, "gateway")), "now"),
        (scope_of(member(Liveness.ALIVE, "gateway"), ttl=60_000_000, age=15), "in 45s"),
    ],
)  # fmt: skip
def test_without_a_keeper_a_grace_that_no_reconcile_has_started_stands_still(
    monkeypatch, scope, words
):
    monkeypatch.setattr("scopekeeper.cli.ends._keeper_runs", lambda: False)
    assert Ends(Snapshot((scope,), 3_600_000_000)).words(scope) == words


@pytest.mark.parametrize(
    ("state", "counted", "moment"),
    [
        (Liveness.ALIVE, (6_600_000_000, 5, 5), 6_600_000_000 + 3_600_000_000),
        (Liveness.ALIVE, (6_600_000_000, 5, 4), None),
        (Liveness.GONE, (6_600_000_000, 5, 5), 6_600_000_000 + 3_600_000_000),
        (Liveness.GONE, (6_600_000_000, 5, 4), None),
    ],
)
def test_what_is_idle_ends_then_and_of_what_works_nobody_knows_when(state, counted, moment):
    policy = policy_of(idle=3_600_000_000, session_grace=FOREVER)
    scope = scope_of(member(state, "session"), activity=(5, 5), idle_since=counted)
    actions = plan(Snapshot((scope,), 7_200_000_000), policy)
    assert ends_of(scope, actions, 7_200_000_000)["/x"] == moment


@given(scopes())
def test_the_shortcut_that_spares_the_planner_changes_nothing(scope):
    scope = dataclasses.replace(scope, uid=0)
    assume(not scope.problem)
    snapshot = Snapshot((scope,), NOW)
    moments = ends_of(scope, plan(snapshot, Policy()), NOW)
    seconds = Ends(snapshot).seconds(scope)
    moment = moments[scope.directory]
    assert seconds == (None if moment is None else max(moment - NOW, 0) / 1e6)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0s"), (9.4, "9s"), (59, "59s"), (61, "1m"), (86399, "23h")]
)
def test_a_moment_has_one_unit(seconds, text):
    assert coarse(seconds) == text
