"""What a keeper tells of an end: one reason out of the closed list, and what it rests on."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.history.end import End
from scopekeeper.keeper import events
from scopekeeper.keeper.end_reason import Circumstances, completed, explain
from scopekeeper.keeper.pending_ends import PendingEnds, _Ends
from scopekeeper.keeper.scope_tracker import Ending, TrackedScope
from scopekeeper.kernel.exit_status import Exit
from scopekeeper.scope.model import Owner, Scope
from scopekeeper.scope.reason import Cause, Reason, Stopper
from scopekeeper.systemd.shutdown import Stopping, UnitState

END = End("0123abcd", 1, 2, "s", "main", "time", Reason.UNKNOWN)
ALONE = Circumstances()
EXITED, KILLED, TERMINATED = Exit(3, None, "x"), Exit(None, 9, "x"), Exit(None, 15, "x")
NOBODY_KNOWS = Exit(None, None, "unknown")


@pytest.mark.parametrize(
    ("exit_", "reason", "evidence"),
    [
        (EXITED, Reason.EXITED, "exit status 3"),
        (KILLED, Reason.SIGNALLED, "killed by SIGKILL"),
        (Exit(None, 64, "x"), Reason.SIGNALLED, "killed by SIGRTMAX"),
        (Exit(None, 40, "x"), Reason.SIGNALLED, "killed by signal 40"),
        (NOBODY_KNOWS, Reason.UNKNOWN, "only its parent knows"),
        (None, Reason.UNKNOWN, "only its parent knows"),
    ],
)
def test_what_ended_by_itself_is_told_as_it_ended(exit_, reason, evidence):
    told = explain(END, exit_, None, 0, ALONE)
    assert told.reason is reason
    assert evidence in told.evidence


@pytest.mark.parametrize("seen", [EXITED, KILLED, TERMINATED])
def test_an_end_that_its_own_watch_missed_is_what_another_watch_saw(seen):
    missed = explain(END, NOBODY_KNOWS, None, 0, ALONE)
    assert completed(missed, seen) == explain(END, seen, None, 0, ALONE)
    for nothing in (None, NOBODY_KNOWS):
        assert completed(missed, nothing) == missed
    explained = explain(END, None, Cause(Reason.STOPPED, "no more"), 0, ALONE)
    assert completed(explained, seen) == explained


def test_what_was_stopped_says_who_asked_and_how_it_went():
    cause = Cause(Reason.STOPPED, "no more", Stopper(7, 1000, "bash"))
    told = explain(END, TERMINATED, cause, 0, ALONE)
    assert told.reason is Reason.STOPPED
    assert told.evidence == "asked for by bash (pid 7, uid 1000): no more"
    assert told.signal == 15


@pytest.mark.parametrize("exit_", [EXITED, KILLED, TERMINATED, NOBODY_KNOWS, None])
def test_how_a_command_ended_never_reads_as_the_end_of_its_owner(exit_):
    told = explain(END, exit_, Cause(Reason.OWNER_GONE, "process 7 has ended"), 0, ALONE)
    assert told.evidence == "process 7 has ended"
    assert (told.exit_status, told.signal) == (
        (exit_.status, exit_.signal) if exit_ else (None,) * 2
    )


@pytest.mark.parametrize("exit_", [KILLED, NOBODY_KNOWS, None])
@pytest.mark.parametrize("cause", [None, Cause(Reason.STOPPED)])
def test_a_kill_of_systemd_oomd_is_its_reason(exit_, cause):
    around = Circumstances(by_oomd="systemd-oomd killed it: user.oomd_ooms")
    told = explain(END, exit_, cause, 0, around)
    assert (told.reason, told.evidence) == (Reason.OOM_KILLED, around.by_oomd)
    assert told.oom_kills is None, "the kernel has counted none"


@pytest.mark.parametrize("exit_", [EXITED, TERMINATED])
def test_what_ended_otherwise_was_not_killed_by_systemd_oomd_whatever_its_cgroup_says(exit_):
    around = Circumstances(by_oomd="systemd-oomd killed it: user.oomd_ooms")
    assert explain(END, exit_, None, 0, around) == explain(END, exit_, None, 0, ALONE)


def test_the_kernels_kill_is_its_reason_even_while_it_is_stopped():
    assert explain(END, KILLED, Cause(Reason.STOPPED), 1, ALONE).reason is Reason.OOM_KILLED


def test_a_helper_that_the_kernel_killed_does_not_explain_its_commands_own_exit():
    told = explain(END, EXITED, None, 1, ALONE)
    assert (told.reason, told.oom_kills) == (Reason.EXITED, 1)


BOUND = Circumstances(bound_to="gateway.service", owner_gone="gateway.service has stopped")
OLD = Circumstances(ttl=5_000_000, age=4_900_000)


@pytest.mark.parametrize(("around", "reason"), [(BOUND, Reason.OWNER_GONE), (OLD, Reason.TTL)])
@pytest.mark.parametrize("exit_", [KILLED, TERMINATED, NOBODY_KNOWS, Exit(143, None, "x")])
def test_what_systemd_was_told_to_end_it_ended(around, reason, exit_):
    assert explain(END, exit_, None, 0, around).reason is reason


MACHINE, LOGOUT = (Circumstances(stopping=each) for each in (Stopping.MACHINE, Stopping.MANAGER))


def test_what_went_down_with_the_machine_or_its_users_manager_says_so():
    told = explain(END, TERMINATED, None, 0, MACHINE)
    assert (told.reason, told.signal) == (Reason.REBOOT, 15)
    assert told.evidence == "the machine was going down"
    assert explain(END, None, None, 0, MACHINE).evidence == "the machine was going down"
    told = explain(END, TERMINATED, None, 0, LOGOUT)
    assert told.reason is Reason.SIGNALLED
    assert told.evidence.startswith("killed by SIGTERM, as the user's manager stopped")
    assert explain(END, NOBODY_KNOWS, None, 0, LOGOUT).reason is Reason.UNKNOWN


def test_what_was_stopped_or_bound_when_all_went_down_keeps_its_own_reason():
    cause = Cause(Reason.STOPPED)
    assert explain(END, TERMINATED, cause, 0, MACHINE).reason is Reason.STOPPED
    bound = Circumstances("gateway.service", "it has stopped", stopping=Stopping.MACHINE)
    assert explain(END, TERMINATED, None, 0, bound).reason is Reason.OWNER_GONE


@pytest.mark.parametrize("around", [OLD, MACHINE, LOGOUT])
def test_what_ended_by_itself_just_then_did_so(around):
    assert explain(END, EXITED, None, 0, around).reason is Reason.EXITED


HUNG_UP, CRASHED = Exit(None, 1, "x"), Exit(None, 11, "x")


@pytest.mark.parametrize("exit_", [None, EXITED, KILLED, TERMINATED, HUNG_UP, Exit(0, None, "x")])
def test_one_end_of_a_service_is_one_reason_however_its_servers_took_it(exit_):
    told = explain(END, exit_, None, 0, BOUND)
    assert (told.reason, told.evidence) == (Reason.OWNER_GONE, "gateway.service has stopped")
    guest = Circumstances("gateway.service", "process 7 has ended")
    told = explain(END, exit_, None, 0, guest)
    assert told.evidence == "systemd ended it with gateway.service: process 7 has ended"


def test_a_crash_is_no_end_of_the_service():
    assert explain(END, CRASHED, None, 0, BOUND).reason is Reason.SIGNALLED


SERVICE = Owner(unit="gateway.service", epoch="1", cgroup="/gateway.service")


@pytest.mark.parametrize(
    ("state", "exit_", "reason"),
    [
        (UnitState(True, 0), TERMINATED, Reason.OWNER_GONE),
        (UnitState(True, 0), EXITED, Reason.OWNER_GONE),
        (UnitState(False, 0), TERMINATED, Reason.SIGNALLED),
        (UnitState(False, 0), EXITED, Reason.EXITED),
        (UnitState(True, 4211), KILLED, Reason.SIGNALLED),
        (None, EXITED, Reason.EXITED),
    ],
)
def test_systemd_reports_whether_the_service_is_being_stopped(state, exit_, reason):
    """Its other processes may take long; and its main process can be a member itself."""
    told, asked, now = [], [], [0.0]

    def doubt(owners, _every):
        asked.extend(owners)
        if state is not None:
            endings.states[SERVICE] = state

    endings = PendingEnds("/sys/fs/cgroup", lambda: now[0], told.append, doubt, lambda: None)
    end = dataclasses.replace(END, pid=4211)
    scope = Scope("x.scope", "/x", "/x", 0, "s", "main")
    around, known = Circumstances("gateway.service"), TrackedScope(scope)
    endings.add("/s", known, [Ending(end, None, around, known, SERVICE)])
    endings.leader_ended(events.LeaderEnded("/s", END.leaf, exit_))
    assert not told
    now[0] = endings.moments[0]
    endings.report_due()
    for key in endings.unexplained():
        endings.explain(key, None)
    assert set(asked) == {SERVICE}
    assert [each.reason for each in told] == [reason]
    if reason is Reason.OWNER_GONE:
        assert told[0].evidence == "gateway.service has stopped"


@pytest.mark.parametrize(
    "around",
    [
        Circumstances(bound_to="gateway.service"),
        Circumstances(owner_gone="process 7 has ended"),
        Circumstances(ttl=60_000_000, age=5_000_000),
    ],
)
def test_nothing_is_guessed(around):
    assert explain(END, TERMINATED, None, 0, around).reason is Reason.SIGNALLED


EXITS = st.one_of(
    st.none(),
    st.builds(Exit, st.integers(0, 255), st.none(), st.just("x")),
    st.builds(Exit, st.none(), st.one_of(st.none(), st.integers(1, 64)), st.just("x")),
)


@given(
    EXITS,
    st.one_of(st.none(), st.builds(Cause, st.sampled_from(Reason), st.text())),
    st.integers(0, 3),
    st.builds(Circumstances, st.sampled_from(["", "g.service"]), st.sampled_from(["", "gone"]),
              st.one_of(st.none(), st.integers(0, 9)), st.integers(0, 9),
              st.sampled_from(Stopping)),
)  # fmt: skip
def test_an_end_keeps_what_it_was_and_gets_one_reason(exit_, cause, kills, around):
    told = explain(END, exit_, cause, kills, around)
    assert (told.member_id, told.started, told.session) == ("0123abcd", 1, "s")
    assert isinstance(told.reason, Reason)
    if cause is not None and told.reason is not Reason.OOM_KILLED:
        assert told.reason is cause.reason


@pytest.mark.parametrize("told_of", ["leaf", "scope"])
def test_a_kill_that_the_kernel_tells_of_after_the_end_still_explains_it(told_of):
    told, now = [], [0.0]
    known = TrackedScope(None)
    nothing = lambda *_: None  # noqa: E731
    endings = PendingEnds("/sys/fs/cgroup", lambda: now[0], told.append, nothing, nothing)
    endings.add("/s", known, [Ending(END, None, ALONE, known, None)])
    assert endings.leader_ended(events.LeaderEnded("/s", END.leaf, KILLED))
    assert not told, "it waits for what may yet explain it"
    known.oom_kills[END.leaf if told_of == "leaf" else ""] = 1
    now[0] = endings.moments[0]
    endings.report_due()
    for key in endings.unexplained():
        endings.explain(key, None)
    assert [(each.reason, each.oom_kills) for each in told] == [(Reason.OOM_KILLED, 1)]
    assert not endings.moments


@pytest.mark.parametrize(
    ("stopping", "reason"),
    [(Stopping.NOTHING, Reason.SIGNALLED), (Stopping.MACHINE, Reason.REBOOT)],
)
def test_before_a_kill_is_told_that_nobody_asked_for_it_is_asked_what_stops(stopping, reason):
    told, asked, now = [], [], [0.0]

    def doubt(*_):
        asked.append(now[0])
        endings.stopping = None

    endings = PendingEnds("/sys/fs/cgroup", lambda: now[0], told.append, doubt, lambda: None)
    endings.add("/s", TrackedScope(None), [Ending(END, None, ALONE, TrackedScope(None), None)])
    endings.leader_ended(events.LeaderEnded("/s", END.leaf, TERMINATED))
    now[0] = endings.moments[0]
    endings.report_due()
    endings.report_due()
    assert (len(asked), told, endings.moments) == (1, [], [])
    endings.stopping = stopping
    endings.report_due()
    assert not told, "who stopped it may be in the history"
    assert endings.leaves("/s") == [END.leaf]
    for key in endings.unexplained():
        endings.explain(key, None)
    assert [each.reason for each in told] == [reason]
    assert len(asked) == 1
    assert not endings


def test_many_ends_that_nothing_explains_take_one_look_at_the_history():
    told, now, asked = [], [0.0], []
    endings = PendingEnds(
        "/sys/fs/cgroup", lambda: now[0], told.append, lambda *_: None, lambda: asked.append(1)
    )
    many = [End(f"{n:08x}", 1, 2, "s", "main", "time", Reason.UNKNOWN) for n in range(300)]
    for end in many:
        endings.add("/s", TrackedScope(None), [Ending(end, None, ALONE, TrackedScope(None), None)])
        endings.leader_ended(events.LeaderEnded("/s", end.leaf, KILLED))
    now[0] = max(endings.moments)
    endings.report_due()
    waiting = endings.unexplained()
    assert (len(waiting), told) == (300, [])
    for number, key in enumerate(waiting):
        endings.explain(key, Cause(Reason.STOPPED, "no more") if number % 2 else None)
    assert [end.member_id for end in told] == [end.member_id for end in many]
    assert {end.reason for end in told[1::2]} == {Reason.STOPPED}
    assert {end.reason for end in told[::2]} == {Reason.SIGNALLED}


KEYS = st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"))


@given(st.lists(st.tuples(KEYS, st.sampled_from(["put", "pop", "delete"]))))
def test_the_ends_of_one_scope_are_found_by_its_name(steps):
    ends = _Ends()
    for key, step in steps:
        if step == "put":
            ends[key] = key
        elif step == "pop":
            ends.pop(key, None)
        elif key in ends:
            del ends[key]
        for scope in "abc":
            found = {leaf for where, leaf in ends if where == scope}
            assert set(ends.leaves(scope)) == found
