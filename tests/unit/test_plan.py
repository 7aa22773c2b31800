"""What should become of a scope: the plan is pure, so every state can be put before it."""

from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.model import Liveness, Member, Owner, OwnerState, Scope, Snapshot
from scopekeeper.reconcile import Policy, Step, Verdict, plan, state_of

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
MEMBERS = st.builds(
    Member,
    st.sampled_from(["time", "git"]),
    st.text("0123456789abcdef", min_size=8, max_size=8),
    st.just("/sys/fs/cgroup/x"),
    st.just("/x"),
    problem=st.sampled_from(["", "", "", "the record is damaged"]),
    leader_lives=st.booleans(),
    lifetime=st.sampled_from(["gateway", "session", "detached"]),
    owner_state=st.one_of(st.none(), OWNERS),
    pids=PIDS,
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
    elsewhere=st.booleans(),
    unrecorded=st.booleans(),
    members=st.lists(MEMBERS, max_size=4).map(tuple),
    strays=PIDS,
)
SNAPSHOTS = st.builds(
    Snapshot,
    st.lists(SCOPES, max_size=3).map(tuple),
    st.sampled_from([None, frozenset(), frozenset(["scopekeeper-s-main.scope"])]),
)


def stopped_members(snapshot):
    for action in plan(snapshot, Policy()):
        if action.step is Step.STOP:
            members = action.scope.members if action.member is None else (action.member,)
            for member in members:
                if member.pids:
                    yield action, member


@given(SNAPSHOTS)
def test_nothing_with_a_living_or_unproved_owner_is_stopped_but_by_its_ttl(snapshot):
    for action, member in stopped_members(snapshot):
        if action.verdict in (Verdict.EXPIRED, Verdict.STOPPING):
            continue  # asked for by name, or at the launch
        assert member.owner_state is not None
        assert member.owner_state.liveness is Liveness.GONE


@given(SNAPSHOTS)
def test_what_was_meant_to_outlive_its_gateway_does(snapshot):
    for action, member in stopped_members(snapshot):
        if action.verdict is Verdict.ORPHAN:
            assert member.lifetime == "gateway"


@given(SNAPSHOTS)
def test_nothing_without_a_record_that_can_be_read_is_stopped_or_removed_while_it_lives(snapshot):
    for action in plan(snapshot, Policy()):
        if action.step is Step.REMOVE and action.scope.problem:
            assert action.scope.unrecorded
            assert not action.scope.pids
        elif action.step in (Step.STOP, Step.REMOVE):
            assert not action.scope.problem
            assert action.member is None or not action.member.problem


@given(SNAPSHOTS)
def test_an_orphan_with_damaged_siblings_or_strays_is_stopped_alone(snapshot):
    for action in plan(snapshot, Policy()):
        if action.verdict is Verdict.ORPHAN and action.member is None:
            assert not action.scope.strays
            assert not any(member.problem for member in action.scope.living_members)


@given(SNAPSHOTS)
def test_nothing_of_another_container_is_stopped_or_removed(snapshot):
    for action in plan(snapshot, Policy()):
        if action.scope.elsewhere:
            assert action.step in (Step.KEEP, Step.REPORT)


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
    for action in plan(snapshot, Policy(orphans=Step.REPORT)):
        assert not (action.step is Step.STOP and action.verdict is Verdict.ORPHAN)


@given(SNAPSHOTS)
def test_a_plan_is_the_same_for_the_same_facts(snapshot):
    assert plan(snapshot, Policy()) == plan(snapshot, Policy())


@given(SCOPES)
def test_every_scope_has_one_word(scope):
    assert state_of(scope) in {
        "running", "orphan", "expired", "leaderless", "stopping", "empty", "foreign",
    }  # fmt: skip
