"""The container of a docker client ends with its member, though it never was in the member."""

import json
import os
import sys
import uuid
from pathlib import Path

import pytest

from tests import container_standin
from tests.machine import (
    FOREVER,
    Scopekeeper,
    cgroup_of,
    eventually,
    is_alive,
    scope_directories,
)

from .guard import Keeper
from .manager import Units

pytestmark = pytest.mark.systemd

SERVER = ("run", "-i", "--rm", "an-image", *FOREVER)


class Docker:
    """A stand-in's client and its daemon, in a unit of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = str(container_standin.install(folder))

    def container(self) -> int:
        """Wait for the one container; return its pid."""
        (kept,) = eventually(lambda: container_standin.containers(self.folder)).values()
        return int(str(kept["pid"]))

    def known(self) -> int:
        """Return the number of containers, ended ones too."""
        return len(container_standin.containers(self.folder))

    def calls(self) -> list[list[str]]:
        """Return the command lines of the client so far."""
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def docker(units: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    folder = tmp_path / "docker"
    folder.mkdir()
    made = Docker(folder)
    script = container_standin.__file__
    name = f"scopekeeper-test-daemon-{uuid.uuid4().hex[:8]}"
    units.run(name, command=(sys.executable, "-I", script, str(made.folder), "daemon"))
    return made


def test_stop_ends_the_container_too(keeper: Scopekeeper, session: str, docker: Docker) -> None:
    keeper.member("-s", session, "--", docker.client, *SERVER)
    pid = docker.container()
    assert ".scope" not in cgroup_of(pid)
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0, done.stderr
    assert f"container of {docker.client}: removed" in done.stdout
    assert not is_alive(pid)
    assert docker.known() == 0
    assert not list(Path(os.environ["SCOPEKEEPER_STATE"]).glob("owned/*.container"))


def test_reconcile_ends_the_container_of_a_client_that_was_killed(
    keeper: Scopekeeper, session: str, docker: Docker
) -> None:
    member = keeper.member("-s", session, "--", docker.client, *SERVER)
    pid = docker.container()
    done = keeper.call("reconcile")
    assert done.returncode == 0, done.stderr
    assert is_alive(pid)
    member.kill()
    member.wait()
    assert is_alive(pid)
    eventually(lambda: keeper.call("reconcile").returncode == 0 and not is_alive(pid))
    assert docker.known() == 0


@pytest.mark.parametrize("by", ["-s", "word"])
def test_stop_ends_the_container_of_a_client_and_a_scope_that_are_gone(
    keeper: Scopekeeper, session: str, docker: Docker, by: str
) -> None:
    member = keeper.member("-s", session, "--", docker.client, *SERVER)
    pid = docker.container()
    member.kill()
    member.wait()
    eventually(lambda: not scope_directories())
    assert keeper.call("stop", "-s", f"{session}:other").returncode == 0
    assert is_alive(pid)
    done = keeper.call("stop", *(("-s", session) if by == "-s" else (session,)))
    assert f"container of {docker.client}: removed" in done.stdout, done.stderr
    assert not is_alive(pid)


def test_the_keeper_ends_it_at_once(
    guard: Keeper, keeper: Scopekeeper, session: str, docker: Docker
) -> None:
    guard.start()
    member = keeper.member("-s", session, "--", docker.client, *SERVER)
    pid = docker.container()
    member.kill()
    member.wait()
    eventually(lambda: not is_alive(pid))


def test_it_waits_for_a_daemon_that_does_not_answer(
    keeper: Scopekeeper, session: str, docker: Docker
) -> None:
    keeper.member("-s", session, "--", docker.client, *SERVER)
    pid = docker.container()
    (docker.folder / "down").touch()
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 1
    assert "Cannot connect" in done.stdout + done.stderr
    assert is_alive(pid)
    (docker.folder / "down").unlink()
    assert keeper.call("reconcile").returncode == 0
    assert not is_alive(pid)


def test_without_rm_it_is_stopped_and_kept(
    keeper: Scopekeeper, session: str, docker: Docker
) -> None:
    keeper.member("-s", session, "--", docker.client, "run", "-i", "an-image", *FOREVER)
    pid = docker.container()
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_alive(pid)
    assert docker.known() == 1


def test_a_container_of_another_member_stays(
    keeper: Scopekeeper, session: str, docker: Docker
) -> None:
    keeper.member("-s", session, "-n", "one", "--", docker.client, *SERVER)
    other = docker.container()
    keeper.member("-s", session, "-n", "two", "--", docker.client, *SERVER)
    eventually(lambda: docker.known() == 2)
    assert keeper.call("stop", "-s", session, "--name", "two").returncode == 0
    assert docker.known() == 1
    assert is_alive(other)


@pytest.mark.parametrize("words", [("--no-container",), ()])
def test_argv_is_left_alone_if_asked_or_if_the_container_is_detached(
    keeper: Scopekeeper, session: str, docker: Docker, words: tuple[str, ...]
) -> None:
    argv = ["run", *([] if words else ["-d"]), "--rm", "an-image", *FOREVER]
    member = keeper.start("-s", session, *words, "--", docker.client, *argv)
    pid = docker.container()
    if not words:
        assert member.wait() == 0
    assert keeper.call("stop", "-s", session).returncode == 0
    assert keeper.call("reconcile").returncode == 0
    assert docker.calls() == [argv]
    assert is_alive(pid)
