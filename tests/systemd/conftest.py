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

from .guard import Keeper
from .installed import Installed
from .manager import Units, scope_units, systemctl

collect_ignore = (
    []
    if ROOT
    else ["test_bus.py", "test_namespaces.py", "test_other_users.py", "test_unkillable.py"]
)
"""Only root can be another user, freeze a file system, make a namespace: others have none of it."""


@pytest.fixture
def session(request: pytest.FixtureRequest) -> str:
    """Name a session that no other test has."""
    return f"test:{request.node.originalname}:{uuid.uuid4().hex[:8]}"


@pytest.fixture
def keeper(units: Units) -> Iterator[Scopekeeper]:
    """Give the program; afterwards nothing that it made may be left."""
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
    """Give a hand that starts services and takes them away again."""
    made = Units()
    yield made
    made.close()


@pytest.fixture
def guard(
    units: Units, keeper: Scopekeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Keeper:
    """Give a keeper that is not started yet; launches see its rules and its state."""
    made = Keeper(units, tmp_path)
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(made.rules))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(made.state))
    assert keeper
    return made


@pytest.fixture
def installed(
    units: Units, keeper: Scopekeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Installed:
    """Install the keeper for this manager; nothing has started it yet."""
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path / "rules"))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    made = Installed(units)
    made.write()
    assert keeper
    return made


@pytest.fixture
def viewer() -> Iterator[Callable[..., Viewer]]:
    """Give what opens a terminal and calls the program there; afterwards its windows are closed."""
    opened: list[Viewer] = []

    def call(*arguments: str, **how: object) -> Viewer:
        opened.append(Viewer([PROGRAM, *arguments], **how))  # type: ignore[arg-type]
        return opened[-1]

    yield call
    for each in opened:
        each.close()


@pytest.fixture
def expendable() -> None:
    """Ask for a machine whose clock, process numbers and power are the test's alone."""
    if "LAB_BOOT" not in os.environ or not is_emulated():
        pytest.skip("changes the whole machine: only in a virtual machine of the lab")


def _remove(directory: str) -> None:
    """See an emptied scope off: systemd removes its own by itself, some tests made theirs."""
    unit = os.path.basename(directory)
    systemctl("stop", "--", unit)
    systemctl("reset-failed", "--", unit)
    eventually(lambda: folders.remove(directory))
