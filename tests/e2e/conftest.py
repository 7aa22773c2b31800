"""The arrangement: one version, played without scopekeeper and then with it.

It takes minutes, so it is made once and the tests look at what was seen. Which versions are played
is chosen as tests are: ``-k 2026.9.6``.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.machine import ROOT

from . import showing
from .containing import Containing
from .live import Live, look_at_live
from .openclaw import INSTALLED, OpenClaw
from .packages import installed, is_of
from .provider import Provider
from .scenario import NO_LEAKS, Column, leaks_of, play, table

TABLES = pytest.StashKey[list[list[str]]]()


@dataclass(slots=True)
class Proof:
    """What was seen of one version."""

    version: str
    without: Column
    contained: Column
    live: Live
    """what only a contained gateway can show"""


@pytest.fixture(scope="module", params=installed(INSTALLED), ids=is_of)
def proof(request: pytest.FixtureRequest) -> Proof:
    """Play the script twice."""
    version = request.param
    if ROOT:
        pytest.skip("OpenClaw's unit is a user's")
    if not (INSTALLED / version / "node_modules/openclaw/openclaw.mjs").exists():
        pytest.skip(f"no OpenClaw {version} in {INSTALLED}: make test-openclaw has it there")
    columns: dict[str, Column] = {}
    provider = Provider()
    try:
        without = _play(OpenClaw(version, provider), columns)
        contained, live = _play_contained(OpenClaw(version, provider), columns)
    finally:
        provider.close()
        _show(request.config, version, columns)
    return Proof(version, without, contained, live)


def _play(claw: OpenClaw, columns: dict[str, Column]) -> Column:
    try:
        claw.configure()
        claw.generate_unit()
        claw.wait_until_ready()
        for column in play(claw, leaks_of(claw.version)):
            columns["without"] = column
    except BaseException:
        print(claw.journal())
        raise
    finally:
        claw.remove()
    return columns["without"]


def _play_contained(claw: OpenClaw, columns: dict[str, Column]) -> tuple[Column, Live]:
    containing: Containing | None = None
    try:
        claw.configure()
        claw.generate_unit()
        containing = Containing(claw)
        claw.restart()
        claw.wait_until_ready()
        steps = play(claw, NO_LEAKS)
        columns["with"] = next(steps)
        live = look_at_live(claw, containing, steps)
    except BaseException:
        print(claw.journal())
        raise
    finally:
        claw.remove()
        if containing is not None:
            containing.remove()
    return columns["with"], live


def _show(config: pytest.Config, version: str, columns: dict[str, Column]) -> None:
    lines = table(version, columns)
    config.stash.setdefault(TABLES, []).append(lines)
    if folder := os.environ.get("LAB_OUT"):
        with Path(folder, "openclaw.txt").open("a") as file:
            file.write("\n".join([*lines, "", ""]))


def pytest_configure(config: pytest.Config) -> None:
    """Print both columns side by side at the end."""
    showing.register(config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> None:
    """Have the next report carry what was counted: the host has nothing else of this machine."""
    tables = item.config.stash.get(TABLES, [])
    while tables:
        item.user_properties.append((showing.PROPERTY, tables.pop()))
