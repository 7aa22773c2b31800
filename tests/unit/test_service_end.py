"""How a service ended, and which stops are part of that end."""

import asyncio
import dataclasses

import pytest

from scopekeeper.history.end import End
from scopekeeper.keeper import events
from scopekeeper.keeper.end_reason import Circumstances
from scopekeeper.keeper.owner_end import explained
from scopekeeper.keeper.pending_ends import PendingEnds
from scopekeeper.keeper.scope_tracker import Ending, TrackedScope
from scopekeeper.kernel.exit_status import Exit
from scopekeeper.lifecycle.plan import Action, Step, Verdict
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope
from scopekeeper.scope.reason import Reason
from scopekeeper.systemd.service_end import how_killed, is_called_by, stated_to
from scopekeeper.systemd.shutdown import UnitState

UNIT = "gateway.service"
SERVICE = Owner(unit=UNIT, epoch="1", cgroup="/gateway.service")
KILLED = f"{UNIT} was killed (signal 9)"


@pytest.mark.parametrize(
    ("result", "code", "status", "how"),
    [
        ("signal", "2", "9", "signal 9"),
        ("signal", "killed", "KILL", "signal 9"),
        ("core-dump", "3", "11", "signal 11"),
        ("core-dump", "dumped", "SEGV", "signal 11"),
        ("oom-kill", "2", "9", "out of memory"),
        ("success", "2", "15", ""),
        ("success", "killed", "TERM", ""),
        ("timeout", "2", "9", ""),
        ("exit-code", "1", "9", ""),
        ("signal", "killed", "NOSUCH", ""),
        ("signal", "", "", ""),
        ("", "", "", ""),
    ],
)
def test_how_a_service_was_killed(result, code, status, how):
    assert how_killed(result, code, status) == how


@pytest.mark.parametrize(
    ("environment", "evidence"),
    [
        ({"SERVICE_RESULT": "signal", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}, KILLED),
        ({"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"},
         f"{UNIT} has stopped"),
        ({"SERVICE_RESULT": "success"}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_what_an_exec_stop_post_knows(environment, evidence):
    assert stated_to(environment, UNIT) == evidence


def test_only_a_child_of_the_manager_in_the_unit_itself_is_its_exec_stop_post():
    assert is_called_by(UNIT, UNIT, "/user.slice/user-1.slice/user@1.service/init.scope")
    assert is_called_by(UNIT, UNIT, "/init.scope")
    assert not is_called_by(UNIT, UNIT, "/gateway.service")
    assert not is_called_by(UNIT, "other.service", "/init.scope")


def action(verdict, *, owner=SERVICE, lifetime="gateway", step=Step.STOP, evidence="x"):
    state = OwnerState(owner, Liveness.GONE, f"{UNIT} has stopped")
    member = Member(
        "cat", "00000001", "/d/m-cat.00000001", "/d", pids=(5,), lifetime=lifetime,
        owner_state=state,
    )  # fmt: skip
    scope = Scope("u.scope", "/d", "/d", 0, "s", "main", members=(member,))
    return Action(step, verdict, scope, member, evidence)


def explain(doing, state, killed=""):
    asked = []

    async def ask(owner):
        asked.append(owner)
        return state

    found = asyncio.run(explained(doing, ask, lambda _: killed))
    return found, asked


LEAVES, RUNS = UnitState(is_leaving=True, main_pid=0), UnitState(is_leaving=False, main_pid=7)


@pytest.mark.parametrize("verdict", [Verdict.ABANDONED, Verdict.LEADERLESS])
def test_what_a_rule_ends_while_its_service_ends_has_the_end_of_that_as_its_cause(verdict):
    one = action(verdict)
    (found,), _ = explain([one], LEAVES, "signal 9")
    assert (found.verdict, found.evidence) == (Verdict.ORPHAN, KILLED)
    assert (found.scope, found.member, found.step) == (one.scope, one.member, one.step)
    (found,), _ = explain([one], LEAVES)
    assert (found.verdict, found.evidence) == (Verdict.ORPHAN, f"{UNIT} has stopped")
    stopping = dataclasses.replace(LEAVES, runs=True)
    assert explain([one], stopping)[0][0].evidence == f"{UNIT} was stopping"
    for state in (RUNS, None):
        assert explain([one], state)[0] == [one]


def test_an_orphan_names_how_its_service_was_killed():
    one = action(Verdict.ORPHAN, evidence=f"{UNIT} has stopped; its grace of 5s is over")
    (found,), _ = explain([one], None, "signal 9")
    assert found.evidence == f"{KILLED}; its grace of 5s is over"
    assert explain([one], LEAVES)[0] == [one]


@pytest.mark.parametrize(
    "other",
    [
        action(Verdict.ABANDONED, owner=Owner(pid=7, start_time=1)),
        action(Verdict.ABANDONED, lifetime="session"),
        action(Verdict.ABANDONED, step=Step.KEEP),
        action(Verdict.IDLE),
        action(Verdict.EXPIRED),
    ],
)
def test_what_no_service_ended_is_not_asked_about(other):
    assert explain([other], LEAVES, "signal 9") == ([other], [])


def test_a_service_is_asked_about_once_for_all_that_it_leaves():
    found, asked = explain([action(Verdict.ABANDONED)] * 50, LEAVES)
    assert (len(found), asked) == (50, [SERVICE])


def test_what_systemd_reported_before_the_next_start_is_the_evidence():
    """A service that is started again at once has another result by the time of the report."""
    told, now = [], [0.0]
    answers = iter([UnitState(is_leaving=True, main_pid=0, killed="signal 9"), LEAVES])

    def doubt(_owners, _every):
        state = next(answers)
        endings.states[SERVICE] = state
        endings.note_killed(SERVICE, state)

    endings = PendingEnds("/sys/fs/cgroup", lambda: now[0], told.append, doubt, lambda: None)
    end = End("0123abcd", 1, 2, "s", "main", "time", Reason.UNKNOWN)
    scope = Scope("x.scope", "/x", "/x", 0, "s", "main")
    known = TrackedScope(scope)
    endings.add("/s", known, [Ending(end, None, Circumstances(UNIT), known, SERVICE)])
    endings.leader_ended(events.LeaderEnded("/s", end.leaf, Exit(0, None, "x")))
    now[0] = endings.moments[0]
    endings.report_due()
    assert [(each.reason, each.evidence) for each in told] == [(Reason.OWNER_GONE, KILLED)]
