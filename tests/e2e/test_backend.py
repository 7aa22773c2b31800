"""Claude Code as the model of a contained OpenClaw: it and all of it belong to the session."""

from collections.abc import Iterator

import pytest

from tests.machine import ROOT, eventually

from . import census
from .backend import CLAUDE, ClaudeAsModel
from .clients.model import Model
from .containing import Containing
from .openclaw import INSTALLED, NAMES
from .packages import installed, is_of
from .scenario import MAIN, SPARK, WORK

VERSIONS = [each for each in installed(INSTALLED) if not each.startswith("2026.4.")]
"""2026.4 starts it anew for each turn, in a way that a plugin cannot change."""
PING = "call: mcp__stub__ping {}"
# it leaves Claude Code's group and its session, and stays when Claude Code is ended
LEAVE = f"E2E_WORKER=backend setsid bash -c '{WORK}' > /dev/null 2>&1 < /dev/null &"
pytestmark = [pytest.mark.openclaw, pytest.mark.timeout(1500)]
Contained = tuple[ClaudeAsModel, Containing]


@pytest.fixture(scope="module", params=VERSIONS, ids=is_of)
def contained(request: pytest.FixtureRequest) -> Iterator[Contained]:
    """Start a contained gateway whose model is Claude Code."""
    version = request.param
    if ROOT:
        pytest.skip("OpenClaw's unit is a user's")
    if not (INSTALLED / version / "node_modules/openclaw/openclaw.mjs").exists():
        pytest.skip(f"no OpenClaw {version} in {INSTALLED}: make test-openclaw has it there")
    if not CLAUDE.exists():
        pytest.skip(f"no {CLAUDE}: make test-openclaw has it there")
    model = Model()
    claw, containing = ClaudeAsModel(version, model), None
    try:
        claw.configure()
        claw.generate_unit()
        containing = Containing(claw)
        claw.restart()
        claw.wait_until_ready()
        yield claw, containing
    except BaseException:
        print(claw.journal())
        raise
    finally:
        claw.remove()
        if containing is not None:
            containing.remove()
        model.close()


def of(session: str) -> set[census.Process]:
    """Return the servers, helpers and workers of a session."""
    return {each for each in census.take().found if each.session == session}


def claude_of(claw: ClaudeAsModel, session: str) -> set[int]:
    """Return the pids of Claude Code in a scope of a session."""
    scope = f"/scopekeeper-{session}-main.scope/m-claude."
    return {pid for pid, cgroup in claw.programs().items() if scope in cgroup}


def work(claw: ClaudeAsModel, session: str) -> set[census.Process]:
    """Have a session's Claude Code use its servers and leave a command; return what there is."""
    claw.wait_until_ready()
    (answer,) = claw.turn(session, PING)
    assert "pong from" in answer
    command = f'call: Bash {{"command": "{LEAVE}", "description": "leave a command"}}'
    claw.turn(session, command)
    eventually(lambda: [each for each in of(session) if each.kind == "worker"])
    return of(session)


def test_it_is_in_the_scope_of_its_session_with_all_that_it_starts_and_ends_with_it(
    contained: Contained,
) -> None:
    claw, containing = contained
    mine, others = work(claw, MAIN), work(claw, SPARK)
    assert {each.name for each in mine} == {*NAMES, "group", "setsid", "backend"}
    assert census.take().sessions == sorted([MAIN, SPARK])
    assert len(claude_of(claw, MAIN)) == len(claude_of(claw, SPARK)) == 1
    assert len(claw.programs()) == 2
    status = containing.json("openclaw", "status")
    assert {each["state"] for each in status["sessions"]} <= {"running", "leaderless"}, status
    assert all(each["unit"] for each in status["sessions"]), status
    claw.wait_until_ready()
    claw.call("sessions.reset", key=MAIN, reason="new")
    eventually(lambda: not any(each.lives for each in mine) and not claude_of(claw, MAIN))
    assert all(each.lives for each in others if each.kind == "worker")
    claw.wait_until_ready()
    (again,) = claw.turn(MAIN, PING)
    assert "pong from" in again
