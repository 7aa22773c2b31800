"""Two gateways of one user have the same session; and one has two lives in the same process."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.machine import ROOT, eventually

from . import census
from .census import Process
from .containing import Containing
from .openclaw import INSTALLED, NAMES, PORTS, OpenClaw
from .packages import installed, is_of
from .provider import Provider
from .scenario import MAIN, WORK, exec_step

VERSIONS = [each for each in installed(INSTALLED) if not each.startswith("2026.4.")]
"""2026.4 goes on with the servers that it has when it restarts within its process."""
OTHER = "agent:spark:other"
"""A session that is never reset: of one that was, OpenClaw ends the servers after each turn."""
HELPERS = ("group", "setsid")
COHORT = sorted([*NAMES, *HELPERS, "terminal"])
"""What runs of a session with its servers and one command."""
pytestmark = [pytest.mark.openclaw, pytest.mark.timeout(1500)]


@dataclass(slots=True)
class Pair:
    """Two contained gateways of one user."""

    one: OpenClaw
    two: OpenClaw
    containing: Containing


@pytest.fixture(scope="module", params=VERSIONS, ids=is_of)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Start two gateways, one of them in a profile, each with its plugin."""
    version = request.param
    if ROOT:
        pytest.skip("OpenClaw's unit is a user's")
    if not (INSTALLED / version / "node_modules/openclaw/openclaw.mjs").exists():
        pytest.skip(f"no OpenClaw {version} in {INSTALLED}: make test-openclaw has it there")
    provider = Provider()
    gateways = [OpenClaw(version, provider, profile) for profile in PORTS]
    containing: list[Containing] = []
    try:
        for claw in gateways:
            claw.configure()
            claw.generate_unit()
            containing.append(Containing(claw))
            claw.restart()
        for claw in gateways:
            claw.wait_until_ready()
        yield Pair(*gateways, containing[0])
    except BaseException:
        for claw in gateways:
            print(claw.journal())
        raise
    finally:
        for claw in gateways:
            claw.remove()
        for each in containing:
            each.remove()
        provider.close()


def of(claw: OpenClaw, *kinds: str) -> set[Process]:
    """Return what runs of a gateway, of these kinds."""
    return {each for each in census.take().owned_by(claw.unit) if each.kind in kinds}


def work(claw: OpenClaw, session: str) -> set[Process]:
    """Have a session use its servers and start a command; return all that runs of it then."""
    claw.wait_until_ready()  # who does not answer for long is hung up on
    before = of(claw, "server", "helper", "worker")
    claw.turn(session, "call: stub__ping {}")
    claw.turn(session, exec_step(f"E2E_WORKER=terminal exec bash -c '{WORK}'"))

    def there() -> set[Process]:
        new = of(claw, "server", "helper", "worker") - before
        return new if sorted(each.name for each in new) == COHORT else set()

    return eventually(there)


def reset(claw: OpenClaw, session: str) -> None:
    """Begin a session anew, as /new does."""
    claw.wait_until_ready()
    claw.call("sessions.reset", key=session, reason="new")


def test_a_new_session_of_one_profile_leaves_that_of_another_alone(pair: Pair) -> None:
    mine, others = work(pair.one, MAIN), work(pair.two, MAIN)
    assert {each.session for each in mine | others} == {MAIN}
    reset(pair.one, MAIN)
    eventually(lambda: not any(each.lives for each in mine))
    assert all(each.lives for each in others)
    # and the other way round, where its scope is not the one with the plain name
    pair.one.wait_until_ready()
    pair.one.turn(MAIN, exec_step(f"E2E_WORKER=terminal exec bash -c '{WORK}'"))
    again = eventually(lambda: of(pair.one, "worker"))
    reset(pair.two, MAIN)
    eventually(lambda: not any(each.lives for each in others))
    assert all(each.lives for each in again)


def test_what_servers_leave_that_openclaw_ends_after_a_turn_does_not_stay(pair: Pair) -> None:
    claw = pair.one
    claw.wait_until_ready()
    claw.turn(MAIN, "call: stub__ping {}")
    reset(claw, MAIN)
    for _ in range(3):
        claw.turn(MAIN, "call: stub__ping {}")
    seen = {each for each in of(claw, "helper") if each.session == MAIN}
    assert seen, "that is what there is to be ended"

    def orphans() -> list[Process]:
        servers = {str(each.pid) for each in of(claw, "server")}
        return [each for each in of(claw, "helper") if each.parent not in servers]

    eventually(lambda: not orphans())


def test_nothing_is_left_of_a_life_before_in_the_same_process(pair: Pair) -> None:
    one, two = pair.one, pair.two
    # by the plugin's word alone
    pair.containing.rule('[lanes.default.mcp]\non_leader_exit = "linger"\n')
    others = work(two, OTHER)
    reset(one, MAIN)  # a command that runs would put the restart off
    eventually(lambda: not of(one, "worker"))
    one.turn(OTHER, "call: stub__ping {}")
    old = {each for each in of(one, "server", "helper") if each.session == OTHER}
    assert sorted(each.name for each in old) == sorted([*NAMES, *HELPERS])
    before = (one.pid, one.epoch)
    one.restart_in_process()
    answers = one.turn(OTHER, "call: stub__ping {}")
    assert (one.pid, one.epoch) == before
    assert "pong from" in "".join(answers)
    eventually(lambda: not any(each.lives for each in old))
    new = {each for each in of(one, "server", "helper") if each.session == OTHER}
    assert sorted(each.name for each in new) == sorted([*NAMES, *HELPERS])
    assert all(each.lives for each in others)
