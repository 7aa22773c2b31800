"""What should become of a scope: the plan is pure, so every state can be put before it."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.lifecycle.plan import Step, Verdict, plan
from scopekeeper.policy.rules import Policy, Setting
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope, Snapshot

OWNERS = st.builds(
    OwnerState,
    st.one_of(
        st.builds(Owner, unit=st.sampled_from(["a.service", "b.service"]), epoch=st.just("e")),
        st.builds(Owner, pid=st.integers(1, 3), start_time=st.just(1)),
    ),
    st.sampled_from(Liveness),
    st.just("seen"),
)
PIDS = st.lists(st.integers(10, 99), max_size=3).map(tuple)
MOMENTS = st.integers(0, 200_000_000)
MEMBERS = st.builds(
    Member,
    st.sampled_from(["time", "git"]),
    st.text("0123456789abcdef", min_size=8, max_size=8),
    st.just("/sys/fs/cgroup/x"),
    st.just("/x"),
    problem=st.sampled_from(["", "", "", "the record is damaged"]),
    unrecorded=st.booleans(),
    holder=st.sampled_from([0, 7]),
    leader_lives=st.booleans(),
    kind=st.sampled_from(["", "mcp", "pty", "exec"]),
    lifetime=st.sampled_from(["gateway", "session", "detached"]),
    owner_state=st.one_of(st.none(), OWNERS),
    orphaned=st.one_of(st.none(), MOMENTS),
    leaderless=st.one_of(st.none(), MOMENTS),
    abandoned=st.sampled_from(["", "", "nobody is there"]),
    abandoned_since=st.one_of(st.none(), MOMENTS),
    pids=PIDS,
    activity=st.one_of(st.none(), st.tuples(MOMENTS, st.integers(0, 3))),
    idle_since=st.one_of(st.none(), st.tuples(MOMENTS, MOMENTS, st.integers(0, 3))),
)
SCOPES = st.builds(
    Scope,
    unit=st.just("scopekeeper-s-main.scope"),
    directory=st.just("/sys/fs/cgroup/x"),
    cgroup=st.just("/x"),
    uid=st.just(1000),
    session=st.just("s"),
    lane=st.just("main"),
    problem=st.sampled_from(["", "", "", "it has no record of ours"]),
    manager=st.sampled_from(["", "user"]),
    lifetime=st.sampled_from(["gateway", "session", "detached"]),
    age=st.floats(0, 100),
    ttl=st.one_of(st.none(), st.integers(0, 100_000_000)),
    stopping=st.booleans(),
    stopper=st.sampled_from([0, 0, 7]),
    elsewhere=st.booleans(),
    container_ended=st.booleans(),
    unrecorded=st.booleans(),
    members=st.lists(MEMBERS, max_size=4).map(tuple),
    strays=PIDS,
    session_id=st.sampled_from(["", "1", "2"]),
    born=MOMENTS,
    activity=st.one_of(st.none(), st.tuples(MOMENTS, st.integers(0, 3))),
    idle_since=st.one_of(st.none(), st.tuples(MOMENTS, MOMENTS, st.integers(0, 3))),
)
SNAPSHOTS = st.builds(
    Snapshot,
    st.lists(SCOPES, max_size=3).map(tuple),
    MOMENTS,
    st.sampled_from([None, frozenset(), frozenset(["scopekeeper-s-main.scope"])]),
)


GRACES = st.sampled_from([None, 0, 1_000_000, 100_000_000, -1])


@st.composite
def policies(draw):
    """Any rules that files can say, for the one lane that there is here."""
    said = {
        "orphans": draw(st.sampled_from(["stop", "report", None])),
        "orphan_grace": draw(GRACES),
        "session_grace": draw(GRACES),
        "on_leader_exit": draw(st.sampled_from(["stop", "linger", None])),
        "leader_grace": draw(GRACES.filter(lambda grace: grace != -1)),
        "supersede": draw(st.sampled_from([True, False, None])),
        "abandoned_grace": draw(GRACES),
        "idle": draw(st.sampled_from([None, 1, 50_000_000])),
        "idle_of": draw(st.sampled_from(["scope", "member", None])),
    }
    settings = {key: Setting(value, "test") for key, value in said.items() if value is not None}
    kinds = {}
    for kind in draw(st.sets(st.sampled_from(["mcp", "pty", "exec"]))):
        what = draw(st.sampled_from(["stop", "linger"]))
        kinds["main", kind] = {"on_leader_exit": Setting(what, "test")}
    return Policy({"main": settings}, kinds=kinds)


def policy_of(**said):
    return Policy({"default": {key: Setting(value, "test") for key, value in said.items()}})


def stopped_members(snapshot, policy=None):
    for action in plan(snapshot, policy or Policy()):
        if action.step is Step.STOP:
            members = action.scope.members if action.member is None else (action.member,)
            for member in members:
                if member.pids:
                    yield action, member


ASKED_FOR = (
    Verdict.EXPIRED,
    Verdict.STOPPING,
    Verdict.SUPERSEDED,
    Verdict.IDLE,
    Verdict.ABANDONED,
    Verdict.LEADERLESS,
)
"""Ended for what was asked for by name, at the launch, or by the rules of the lane."""


@given(SNAPSHOTS, policies())
def test_nothing_with_a_living_or_unproved_owner_is_stopped_as_an_orphan(snapshot, policy):
    for action, member in stopped_members(snapshot, policy):
        if action.verdict not in ASKED_FOR:
            assert member.owner_state is not None
            assert member.owner_state.liveness is Liveness.GONE


@given(SNAPSHOTS)
def test_without_rules_only_what_nobody_can_use_and_what_was_asked_for_is_stopped(snapshot):
    for action in plan(snapshot, Policy()):
        if action.step is not Step.STOP:
            continue
        if action.verdict is Verdict.LEADERLESS:
            assert action.member.kind == "mcp"
        elif action.verdict is Verdict.ABANDONED:
            assert action.member.abandoned
        else:
            assert action.verdict in (Verdict.EXPIRED, Verdict.STOPPING, Verdict.ORPHAN)


@given(SNAPSHOTS, policies())
def test_what_another_process_is_at_to_stop_is_left_to_it(snapshot, policy):
    for action in plan(snapshot, policy):
        assert not (action.scope.stopper and action.step is Step.STOP)


@given(SNAPSHOTS, policies())
def test_what_is_detached_is_stopped_only_by_name_or_at_its_own_age(snapshot, policy):
    for action, member in stopped_members(snapshot, policy):
        if action.verdict in (Verdict.ORPHAN, Verdict.LEADERLESS):
            assert member.lifetime != "detached"
        if action.verdict in (Verdict.SUPERSEDED, Verdict.IDLE):
            assert action.scope.lifetime != "detached"


@given(SNAPSHOTS)
def test_what_outlives_its_gateway_is_stopped_when_its_grace_is_over_and_not_before(snapshot):
    for action, member in stopped_members(snapshot):
        if action.verdict is Verdict.ORPHAN and member.lifetime == "session":
            assert member.orphaned is not None
            assert snapshot.now - member.orphaned >= 86_400_000_000


@given(SNAPSHOTS, policies())
def test_what_is_kept_for_a_while_comes_to_another_plan_when_the_while_is_over(snapshot, policy):
    for action in plan(snapshot, policy):
        if action.due is None or action.step is not Step.KEEP or action.verdict is Verdict.OWNED:
            continue
        assert action.due > snapshot.now
        if action.mark:
            assert action.mark[1].split()[0] == str(snapshot.now)


@given(SNAPSHOTS)
def test_an_orphan_is_kept_for_its_grace_and_then_stopped(snapshot):
    policy = policy_of(orphan_grace=60_000_000)
    for action in plan(snapshot, policy):
        member = action.member
        if action.verdict is not Verdict.ORPHAN or member is None or member.lifetime != "gateway":
            continue
        if action.step is Step.KEEP:
            since = int(action.mark[1]) if action.mark else member.orphaned
            assert action.due == since + 60_000_000
        else:
            assert member.orphaned + 60_000_000 <= snapshot.now


@given(SNAPSHOTS)
def test_the_newest_run_supersedes_and_stays(snapshot):
    for action in plan(snapshot, policy_of(supersede=True)):
        if action.verdict is Verdict.SUPERSEDED:
            ids = {s.session_id for s in snapshot.scopes if s.born > action.scope.born}
            assert ids - {"", action.scope.session_id}
            assert action.scope.born < max(s.born for s in snapshot.scopes)


@given(SNAPSHOTS)
def test_nothing_without_a_record_that_can_be_read_is_stopped_or_removed_while_it_lives(snapshot):
    for action in plan(snapshot, Policy()):
        if action.step is Step.REMOVE and action.scope.problem:
            assert action.scope.unrecorded
            assert not action.scope.pids
        elif action.step in (Step.STOP, Step.REMOVE):
            assert not action.scope.problem
            if action.member is not None and action.member.problem:
                assert action.step is Step.REMOVE
                assert action.member.unrecorded
                assert not action.member.lives


@given(SNAPSHOTS)
def test_an_orphan_with_damaged_siblings_or_strays_is_stopped_alone(snapshot):
    for action in plan(snapshot, Policy()):
        if action.verdict is Verdict.ORPHAN and action.member is None:
            assert not action.scope.strays
            assert not any(member.problem for member in action.scope.living_members)


@given(SNAPSHOTS)
def test_of_another_container_only_what_is_empty_and_left_is_removed(snapshot):
    for action in plan(snapshot, Policy()):
        if action.scope.elsewhere and action.step not in (Step.KEEP, Step.REPORT):
            assert action.step is Step.REMOVE
            assert action.member is None
            assert action.scope.container_ended
            assert not action.scope.pids


@given(SNAPSHOTS)
def test_only_what_is_empty_is_removed(snapshot):
    for action in plan(snapshot, Policy()):
        if action.step is Step.REMOVE:
            assert not (action.scope.pids if action.member is None else action.member.pids)


@given(SNAPSHOTS)
def test_every_living_process_is_accounted_for(snapshot):
    actions = plan(snapshot, Policy())
    for scope in snapshot.scopes:
        mine = [action for action in actions if action.scope is scope]
        assert mine
        whole = any(action.member is None for action in mine)
        told = [action.member for action in mine if action.member is not None]
        assert whole or all(member in told for member in scope.living_members)


@given(SNAPSHOTS, st.sampled_from(["a.service", "a", "1"]))
def test_for_one_owner_nothing_of_others_is_touched(snapshot, owner):
    for action in plan(snapshot, Policy(), owner=owner):
        if action.step is Step.STOP and action.verdict is Verdict.ORPHAN:
            members = action.scope.living_members if action.member is None else [action.member]
            for member in members:
                known = member.owner_state.owner
                assert known.unit == "a.service" if owner != "1" else known.pid == 1


@given(SNAPSHOTS)
def test_without_a_policy_to_stop_no_orphan_is_stopped(snapshot):
    for action in plan(snapshot, policy_of(orphans="report")):
        assert not (action.step is Step.STOP and action.verdict is Verdict.ORPHAN)


@given(SNAPSHOTS)
def test_a_plan_is_the_same_for_the_same_facts(snapshot):
    assert plan(snapshot, Policy()) == plan(snapshot, Policy())


@given(SCOPES)
def test_every_scope_has_one_word(scope):
    assert scope.state in {
        "running", "orphan", "abandoned", "expired", "leaderless", "stopping", "empty", "foreign",
        "placed", "kept",
    }  # fmt: skip


def leaderless(kind, **said):
    """Return a scope with one member whose command has ended, while a helper lives."""
    owner = OwnerState(Owner(unit="a.service", epoch="e"), Liveness.ALIVE, "it runs")
    known = {"lifetime": "gateway", "owner_state": owner, "pids": (10,), "leader_lives": False}
    member = Member("time", "0" * 8, "/sys/fs/cgroup/x/m", "/x/m", kind=kind, **(known | said))
    return Scope("scopekeeper-s-main.scope", "/sys/fs/cgroup/x", "/x", 1000, "s", "main",
                 manager="user", kind="mcp", lifetime="gateway", members=(member,))  # fmt: skip


def steps(scope, now, policy=None):
    return [(each.step, each.due) for each in plan(Snapshot((scope,), now), policy or Policy())]


def test_what_a_server_leaves_ends_after_ten_seconds_and_what_a_command_leaves_stays():
    scope = leaderless("mcp")
    (action,) = plan(Snapshot((scope,), 5_000_000), Policy())
    assert (action.step, action.due, action.mark) == (
        Step.KEEP, 15_000_000, ("LEADERLESS", "5000000"),
    )  # fmt: skip
    marked = leaderless("mcp", leaderless=5_000_000)
    assert steps(marked, 14_999_999) == [(Step.KEEP, 15_000_000)]
    assert steps(marked, 15_000_000) == [(Step.STOP, None)]
    for kind in ("pty", "exec", ""):
        assert steps(leaderless(kind, leaderless=5), 10**12) == [(Step.REPORT, None)]
    assert steps(leaderless("mcp", leaderless=5, lifetime="detached"), 10**12) == [
        (Step.REPORT, None)
    ]


def test_what_was_placed_is_kept_until_its_holder_has_ended_and_then_removed():
    gone = OwnerState(Owner(pid=1), Liveness.GONE, "it has ended")
    for owner in (gone, None):
        placed = leaderless("mcp", pids=(), holder=7, owner_state=owner)
        held = dataclasses.replace(placed, strays=(7,))
        assert (held.state, held.members[0].state) == ("placed", "placed")
        (action,) = plan(Snapshot((held,), 10**12), Policy())
        assert (action.step, action.verdict) == (Step.KEEP, Verdict.PLACED)
        assert (action.member, action.due) == (held.members[0], None)
    left = leaderless("mcp", pids=(), holder=0)
    assert [each.step for each in plan(Snapshot((left,), 10**12), Policy())] == [Step.REMOVE]


def test_an_orphan_beside_a_place_is_ended_alone():
    scope = leaderless("mcp", owner_state=OwnerState(Owner(pid=1), Liveness.GONE, "it has ended"))
    (orphan,) = scope.members
    waits = dataclasses.replace(orphan, member_id="1" * 8, pids=(), holder=7)
    beside = dataclasses.replace(scope, members=(orphan, waits), strays=(7,))
    found = plan(Snapshot((beside,), 10**12), policy_of(orphan_grace=0))
    assert [(each.step, each.member) for each in found] == [
        (Step.STOP, orphan),
        (Step.KEEP, waits),
    ]


def test_of_two_owners_that_have_ended_a_plan_for_one_is_about_its_members():
    one, other = (OwnerState(Owner(pid=n), Liveness.GONE, f"process {n} has ended") for n in (1, 2))
    scope = leaderless("mcp", owner_state=one)
    (mine,) = scope.members
    theirs = dataclasses.replace(mine, member_id="1" * 8, owner_state=other)
    shared = Snapshot((dataclasses.replace(scope, members=(mine, theirs)),), 10**12)
    for owner, member in (("1", mine), ("2", theirs)):
        (action,) = plan(shared, Policy(), owner=owner)
        assert (action.step, action.verdict, action.member) == (Step.STOP, Verdict.ORPHAN, member)
    (action,) = plan(shared, Policy())
    assert (action.step, action.member) == (Step.STOP, None)
