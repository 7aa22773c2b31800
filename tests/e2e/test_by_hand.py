"""A gateway that is started at a terminal, without its unit, and ended by ctrl-c."""

import time

import pytest

from tests.machine import ROOT, SHELL, eventually, is_alive
from tests.viewer import Viewer

from . import census
from .census import Process
from .containing import Containing
from .openclaw import INSTALLED, NAMES, PATH, QUICK, OpenClaw
from .packages import installed, is_of
from .provider import Provider
from .scenario import LEAKS, MAIN, WORK

ENDS_S = 120.0
LEFT_S = 15.0
"""Leftovers of a server stay for ten seconds; what has lost its gateway ends at once."""
STARTED = sorted([*NAMES, "group", "setsid", "plain"])
# OpenClaw ends its own background commands when it leaves; this one is in none of its groups
COMMAND = f"E2E_WORKER=plain setsid bash -c '{WORK}' > /dev/null 2>&1 < /dev/null &"
pytestmark = [pytest.mark.openclaw, pytest.mark.timeout(1500)]


def play(claw: OpenClaw, shell: str) -> list[Process]:
    """Have a session of the gateway at work, end the gateway by ctrl-c; return what is left."""
    terminal = Viewer(claw.by_hand, 200, 50, **QUICK, PATH=PATH, SHELL=shell)
    try:
        claw.wait_until_ready()
        claw.turn(MAIN, "call: stub__ping {}")
        claw.turn(MAIN, f'call: exec {{"command": "{COMMAND}"}}')
        eventually(lambda: sorted(each.name for each in census.take().found) == STARTED)
        started = census.take().found
        gateway = terminal.command
        claw.leave()
        terminal.type("\x03")
        eventually(lambda: not is_alive(gateway), ENDS_S)  # it drains first
        deadline = time.monotonic() + LEFT_S
        while (left := [each for each in started if each.lives]) and time.monotonic() < deadline:
            time.sleep(0.1)
    except BaseException:
        print("\n".join(terminal.picture()))
        raise
    else:
        return left
    finally:
        terminal.close()


@pytest.mark.parametrize("version", installed(INSTALLED), ids=is_of)
@pytest.mark.parametrize("contained", [False, True], ids=["without", "with"])
def test_nothing_outlives_a_gateway_that_was_ended_at_its_terminal(
    version: str, contained: bool
) -> None:
    if ROOT:
        pytest.skip("the keeper of a user ends it")
    if not (INSTALLED / version / "node_modules/openclaw/openclaw.mjs").exists():
        pytest.skip(f"no OpenClaw {version} in {INSTALLED}: make test-openclaw has it there")
    provider = Provider()
    claw, containing = OpenClaw(version, provider), None
    try:
        claw.configure()
        containing = Containing(claw) if contained else None
        left = play(claw, SHELL if contained else "/bin/bash")
        names = sorted(each.name for each in left)
        if contained:
            assert names == []
        elif version in LEAKS:
            assert {"setsid", "plain"} <= set(names)
    finally:
        claw.remove()
        if containing is not None:
            containing.remove()
        for each in census.take().found:
            each.end()
        provider.close()
