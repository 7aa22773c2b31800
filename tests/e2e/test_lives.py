"""Two gateways of one user have the same session; and one has two lives in the same process."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.machine import ROOT, eventually

from . import census
from .census import Process
from .containing import Containing
from .openclaw import INSTALLED, NAMES, PORTS, OpenClaw
from .provider import Provider
from .scenario import MAIN, WORK, exec_step

VERSIONS = ("2026.9.6",)
"""2026.4 goes on with the servers that it has when it restarts within its process."""
HELPERS = ("group", "setsid")
pytestmark = [pytest.mark.openclaw, pytest.mark.timeout(900)]


@dataclass(slots=True)
class Pair:
    """Two contained gateways of one user."""

    one: OpenClaw
    two: OpenClaw


@pytest.fixture(scope="module", params=VERSIONS)
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
        yield Pair(*gateways)
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


def work(claw: OpenClaw) -> set[Process]:
    """Have the main session use a server and start a command; return all that then runs of it."""
    answers = claw.turn(MAIN, "call: stub__ping {}")
    answers += claw.turn(MAIN, exec_step(f"E2E_WORKER=terminal exec bash -c '{WORK}'"))
    mine: tuple[Process, ...] = ()

    def all_there() -> bool:
        nonlocal mine
        mine = census.take().owned_by(claw.unit)
        return sorted(each.name for each in mine) == sorted([*NAMES, *HELPERS, "terminal"])

    try:
        eventually(all_there)
    except AssertionError:
        print(answers, mine, census.take().found, sep="\n")
        raise
    return set(mine)


def test_a_new_session_of_one_profile_leaves_that_of_another_alone(pair: Pair) -> None:
    mine, others = work(pair.one), work(pair.two)
    assert {each.session for each in mine | others} == {MAIN}
    pair.one.call("sessions.reset", key=MAIN, reason="new")
    eventually(lambda: not any(each.lives for each in mine))
    assert all(each.lives for each in others)
    # and the other way round, where its scope is not the one with the plain name
    again = work(pair.one)
    pair.two.call("sessions.reset", key=MAIN, reason="new")
    eventually(lambda: not any(each.lives for each in others))
    assert all(each.lives for each in again)


def test_nothing_is_left_of_a_life_before_in_the_same_process(pair: Pair) -> None:
    claw = pair.one
    others = work(pair.two)
    old = {each for each in census.take().owned_by(claw.unit) if each.kind != "worker"}
    if not old:
        claw.turn(MAIN, "call: stub__ping {}")
        old = {each for each in census.take().owned_by(claw.unit) if each.kind != "worker"}
    assert {each.name for each in old} == {*NAMES, *HELPERS}
    before = (claw.pid, claw.epoch)
    claw.restart_in_process()
    answers = claw.turn(MAIN, "call: stub__ping {}")
    assert (claw.pid, claw.epoch) == before
    assert "pong from" in "".join(answers)
    new = {each for each in census.take().owned_by(claw.unit) if each.kind != "worker"} - old
    # sooner than on_leader_exit would have it
    eventually(lambda: not any(each.lives for each in old), seconds=8)
    assert {each.name for each in new} == {*NAMES, *HELPERS}
    assert all(each.lives for each in new | others)
