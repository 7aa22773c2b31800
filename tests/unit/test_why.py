"""What `why` tells of an end: all that the history has, and nothing twice."""

import dataclasses
import os
import subprocess

import pytest
from ends import an_end

from scopekeeper.cli.moments import briefly, when
from scopekeeper.cli.still_running import Running, client
from scopekeeper.cli.why import account
from scopekeeper.history.end import ENDED_BEFORE
from scopekeeper.lifecycle.plan import Action, Step, Verdict
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope
from scopekeeper.scope.reason import Reason


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"reason": Reason.EXITED, "exit_status": 3, "evidence": "exit status 3"},
         "exited with status 3, "),
        ({"reason": Reason.EXITED, "evidence": "its command was not started"},
         ": its command was not started"),
        ({"reason": Reason.SIGNALLED, "signal": 15, "evidence": "killed by SIGTERM"},
         "was ended by SIGTERM, "),
        ({"reason": Reason.SIGNALLED, "signal": 15,
          "evidence": "killed by SIGTERM, as the user's manager stopped with all that it ran"},
         ": killed by SIGTERM, as the user's manager stopped with all that it ran"),
        ({"reason": Reason.STOPPED, "evidence": "asked for by bash"}, ": asked for by bash"),
    ],
)  # fmt: skip
def test_a_sentence_has_the_evidence_unless_it_says_so_already(known, said):
    text = account(an_end(**known)).line
    assert said in text
    assert text.count(known["evidence"]) <= 1


@pytest.mark.parametrize(
    ("how", "clause"),
    [
        ({"exit_status": 0}, "its command exited with status 0"),
        ({"signal": 15}, "its command was ended by SIGTERM"),
    ],
)
def test_the_owner_and_the_command_have_an_end_each(how, clause):
    end = an_end(reason=Reason.OWNER_GONE, evidence="process 7 has ended", processes=2, **how)
    assert f": process 7 has ended; {clause}; 2 processes ended" in account(end).line
    assert f"    {clause}" in account(end).lines(80)


@pytest.mark.parametrize(
    ("how", "clause"),
    [
        ({"signal": 1}, ", by SIGHUP"),
        ({"exit_status": 7}, ", with status 7"),
        ({}, ""),
    ],
)
def test_a_command_that_had_ended_before_has_one_clause(how, clause):
    evidence = f"asked for by bash; {ENDED_BEFORE}"
    line = account(an_end(reason=Reason.STOPPED, evidence=evidence, processes=2, **how)).line
    assert line.endswith(f": {evidence}{clause}; 2 processes ended.")


@pytest.mark.parametrize(
    ("owner", "title"),
    [
        (Owner(unit="my-gateway.service", epoch="1"), "my-gateway.service"),
        (Owner(pid=257, start_time=3, name="claude"), "claude[257]"),
    ],
)
def test_of_what_runs_the_owner_is_named(owner, title):
    state = OwnerState(owner, Liveness.ALIVE, "it runs")
    member = Member("cat", "00000001", "/d/m-cat.00000001", "/d", pids=(5,), owner_state=state)
    scope = Scope("u.scope", "/d", "/d", os.getuid(), "s", "main", members=(member,))
    runs = Running(scope, member)
    assert f"; its owner is {title}" in runs.account(keeper_runs=False).line
    assert runs.document["owner"]["unit"] == (owner.unit or None)
    nobody = dataclasses.replace(member, owner_state=None)
    assert "owner" not in Running(scope, nobody).account(keeper_runs=False).line


LONG = {
    "reason": Reason.STOPPED, "evidence": "asked for by " + "node " * 20, "processes": 5,
    "cpu_usec": 2_100_000, "name": "git",
}  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 200])
def test_on_a_terminal_details_are_indented_lines_and_no_word_is_broken(width):
    end = an_end(**LONG)
    first, *more = account(end).lines(width)
    text = account(end).line
    assert first.startswith(text[:19])
    assert all(line.startswith("    ") for line in more)
    assert all(len(line) <= width or len(line.split()) == 1 for line in (first, *more))
    words = set(text.replace("(", "").replace(")", "").replace(":", "").replace(";", "").split())
    shown = {w for line in (first, *more) for w in line.replace(":", "").replace(";", "").split()}
    assert {each.rstrip(".,") for each in shown} == {each.rstrip(".,") for each in words}


def test_a_long_name_is_cut_in_the_middle_on_a_terminal_and_nowhere_else():
    end = an_end(**(LONG | {"name": "a" * 120 + "z" * 120}))
    first, *_ = account(end).lines(80)
    assert f"{'a' * 20}…{'z' * 19} was stopped by" in first
    assert end.name in account(end).lines(80, whole=True)[1]
    assert end.name in account(end).lines(None)[0]


def test_without_a_terminal_each_end_is_one_line_for_grep():
    (line,) = account(an_end(**LONG)).lines(None)
    assert line.endswith("; 5 processes ended; 2.1s of CPU.")


def test_the_client_of_a_running_server_is_named_until_it_lets_go():
    with subprocess.Popen(["sleep", "1000"], stdin=subprocess.PIPE) as server:
        try:
            member = Member("x", "01234567", "/m", "/m", pid=server.pid, leader_lives=True)
            assert client(member).startswith("the other end of its stdin is held by ")
            assert client(member).endswith(f" (pid {os.getpid()})")
            server.stdin.close()
            assert client(member) == "nobody holds the other end of its stdin"
        finally:
            server.kill()
    assert client(member) == ""


def test_the_time_of_an_end_that_nothing_saw_is_the_latest_possible():
    moment = 1_000_000_000_000_000
    day = when(moment).partition(" ")[0]
    assert briefly(moment, seen=True) == day
    assert briefly(moment, seen=False) == f"≤{day}"


def test_an_abandoned_server_has_the_whole_proof_and_once():
    proof = "nobody holds the other end of its stdin and of its stdout"
    member = Member("x", "00000001", "/cg/x", "/x", pid=os.getpid(), pids=(os.getpid(),),
                    leader_lives=True, abandoned=proof)  # fmt: skip
    scope = Scope("scopekeeper-s-main.scope", "/cg", "/", os.getuid(), "s", "main")
    action = Action(Step.KEEP, Verdict.ABANDONED, scope, member, f"{proof}; ends in 10s", due=7)
    line = Running(scope, member, action).account(keeper_runs=True).line
    assert line.endswith("abandoned: ends in 10s.")
    assert "abandoned:  " not in line
