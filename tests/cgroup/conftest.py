"""Fixtures of the tests in a cgroup of our own: a scratch one, which is gone afterwards."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import folders
from tests.machine import MOUNT, Scopekeeper, end_cgroup, eventually

from .container import Container


def home() -> str:
    """Return the cgroup below which tests may make one: our own unit's, else the top."""
    with open("/proc/self/cgroup") as file:
        own = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
    at = own.find(".service")
    return MOUNT + (own[: at + len(".service")] if at >= 0 else "")


@pytest.fixture
def folder() -> Iterator[str]:
    """Give an empty cgroup; whatever is in it afterwards is ended, and it is removed."""
    path = f"{home().rstrip('/')}/scratch-{uuid.uuid4().hex[:12]}"
    os.mkdir(path)
    yield path
    end_cgroup(path)
    eventually(lambda: folders.remove(path))


@pytest.fixture
def session(request: pytest.FixtureRequest) -> str:
    """Name a session that no other test, here or in a machine of ours, has."""
    return f"test:{request.node.originalname}:{uuid.uuid4().hex[:8]}"


@pytest.fixture
def keeper(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scopekeeper]:
    """Give the program, launching into the scratch cgroup, with a state of the test's own."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    program = Scopekeeper("--placement", f"cgroup:{folder}")
    yield program
    end_cgroup(folder)
    program.close()


@pytest.fixture
def container(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    """Give the program inside of a container, with a state and rules of the test's own.

    Their names are longer than what fits into the address of a socket.
    """
    home = tmp_path / ("h" * 100)
    home.mkdir()
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(home / "rules"))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(home / "state"))
    program = Container(folder)
    yield program
    end_cgroup(folder)
    program.close()
