"""Servers that OpenClaw's own commands add to a contained gateway, under the rule ``rewrap``."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import ROOT, eventually

from . import census
from .containing import Containing
from .openclaw import INSTALLED, STUB, OpenClaw
from .packages import installed, is_of
from .provider import Provider
from .scenario import MAIN

VERSIONS = [each for each in installed(INSTALLED) if not each.startswith("2026.4.")]
"""2026.4 has no ``mcp add``."""
pytestmark = [pytest.mark.openclaw, pytest.mark.timeout(1500)]
NEXT = "agent:main:next"
Contained = tuple[OpenClaw, Containing]


class OneAgent(OpenClaw):
    """``mcp add`` of 2026.9.6 refuses the older form of a configuration with several agents."""

    def _configuration(self) -> dict[str, Any]:
        made = super()._configuration()
        del made["agents"]["list"]
        return made


@pytest.fixture(scope="module", params=VERSIONS, ids=is_of)
def contained(request: pytest.FixtureRequest) -> Iterator[Contained]:
    """Start a contained gateway with the rule, and a keeper."""
    version = request.param
    if ROOT:
        pytest.skip("OpenClaw's unit is a user's")
    if not (INSTALLED / version / "node_modules/openclaw/openclaw.mjs").exists():
        pytest.skip(f"no OpenClaw {version} in {INSTALLED}: make test-openclaw has it there")
    provider = Provider()
    claw, containing = OneAgent(version, provider), None
    try:
        claw.configure()
        claw.generate_unit()
        containing = Containing(claw)
        containing.rule("rewrap = true\n")
        claw.restart()
        claw.wait_until_ready()
        claw.turn(MAIN, "call: stub__ping {}")  # its first scope starts the keeper
        yield claw, containing
    except BaseException:
        print(claw.journal())
        raise
    finally:
        claw.remove()
        if containing is not None:
            containing.remove()
        for each in census.take().found:  # the probe of `mcp add` leaves a helper
            each.end()
        provider.close()


def is_wrapped(path: Path, *keys: str) -> bool:
    server: Any = json.loads(path.read_text())
    for key in keys:
        server = server.get(key, {})
    return bool(server.get("args", [])[:1] == ["run"])


def test_a_server_that_mcp_add_adds_is_contained_in_the_next_session(contained: Contained) -> None:
    claw, _ = contained
    done = claw.command(
        "mcp", "add", "extra", "--command", "/usr/bin/python3", "--arg", str(STUB),
        "--env", "E2E_SERVER=stubborn",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    eventually(lambda: is_wrapped(claw.configuration, "mcp", "servers", "extra"))

    sessions = (f"{NEXT}-{number}" for number in itertools.count())

    def is_contained() -> bool:
        # the gateway reads what was added, restarts for it, and reads the wrapped one later
        claw.wait_until_ready()
        session = next(sessions)
        answer = "".join(claw.turn(session, "call: extra__ping {}"))
        servers = census.take().of("server", "stubborn")
        return "pong from" in answer and session in {each.session for each in servers}

    eventually(is_contained, 300, 1)
