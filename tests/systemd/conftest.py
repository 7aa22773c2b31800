"""Fixtures of the tests on a real systemd."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import folders
from tests.machine import (
    PROGRAM,
    ROOT,
    Scopekeeper,
    end_cgroup,
    eventually,
    is_emulated,
    scope_directories,
)
from tests.viewer import Viewer

from .faults import faults  # noqa: F401  a fixture
from .fleet import fleet  # noqa: F401  a fixture
from .guard import Keeper
from .installed import Installed
from .manager import Units, scope_units, systemctl

_NEEDS_ROOT = [
    "test_bus.py", "test_namespaces.py", "test_other_users.py", "test_two_users.py",
    "test_unkillable.py",
]  # fmt: skip
"""Only root can become another user, freeze a file system or create a namespace."""
collect_ignore = [] if ROOT else _NEEDS_ROOT


@pytest.fixture
def session(request: pytest.FixtureRequest) -> str:
    """Name a session that no other test has."""
    return f"test:{request.node.originalname}:{uuid.uuid4().hex[:8]}"


@pytest.fixture
def keeper(units: Units) -> Iterator[Scopekeeper]:
    """Provide the program; afterwards nothing that it created may be left."""
    program = Scopekeeper()
    yield program
    units.close()
    left = scope_directories()
    for directory in left:
        end_cgroup(directory)
    program.close()
    for directory in left:
        _remove(directory)
    eventually(lambda: not [s for s in scope_units().values() if s not in ("failed", "inactive")])
    assert not scope_directories()


@pytest.fixture
def units() -> Iterator[Units]:
    """Start services, and remove them after the test."""
    made = Units()
    yield made
    made.close()


@pytest.fixture
def guard(
    units: Units, keeper: Scopekeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Keeper:
    """Provide a keeper, not started yet; launches use its rules and its state."""
    made = Keeper(units, tmp_path)
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(made.rules))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(made.state))
    assert keeper
    return made


@pytest.fixture
def installed(
    units: Units, keeper: Scopekeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Installed:
    """Install the keeper for this manager, not started yet."""
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path / "rules"))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    made = Installed(units)
    made.write()
    assert keeper
    return made


@pytest.fixture
def viewer() -> Iterator[Callable[..., Viewer]]:
    """Provide a function that runs the program on a new terminal; close all at the end."""
    opened: list[Viewer] = []

    def call(*arguments: str, **how: object) -> Viewer:
        opened.append(Viewer([PROGRAM, *arguments], **how))  # type: ignore[arg-type]
        return opened[-1]

    yield call
    for each in opened:
        each.close()


@pytest.fixture
def expendable() -> None:
    """Require a machine whose clock, pids and power belong to the test alone."""
    if "LAB_BOOT" not in os.environ or not is_emulated():
        pytest.skip("changes the whole machine: only in a virtual machine of the lab")


def _remove(directory: str) -> None:
    """Remove an emptied scope: systemd removes its own, but some tests create others."""
    unit = os.path.basename(directory)
    systemctl("stop", "--", unit)
    systemctl("reset-failed", "--", unit)
    eventually(lambda: folders.remove(directory))
