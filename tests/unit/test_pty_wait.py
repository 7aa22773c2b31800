"""Waiting for the end of a run while its keeper is stopped, or hangs when the end is there."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from scopekeeper.exec import client, run, silence, wait
from scopekeeper.exec.silence import SilentError
from tests.machine import eventually, text_of
from tests.unit.standin import a_run

KEEPER = """
import socket, sys, time
from scopekeeper.exec import protocol
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
connection, _ = server.accept()
connection.recv(1 << 16)
connection.sendall(protocol.message(ok=True, run={}))
print("answered", flush=True)
time.sleep(1000)
"""

Begin = Callable[[], tuple[subprocess.Popen[str], threading.Thread, list[SilentError]]]


@pytest.fixture
def scope(tmp_path: pathlib.Path) -> pathlib.Path:
    """A stand-in for the scope's cgroup, in which something lives."""
    scope = tmp_path / "scope"
    scope.mkdir()
    (scope / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    return scope


@pytest.fixture
def begin(
    tmp_path: pathlib.Path, scope: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Begin]:
    """Begin to wait for a run whose keeper has answered that it lives."""
    path = tmp_path / "keeper"
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(client, "address", lambda: str(path))
    monkeypatch.setattr(wait, "_started", lambda _: client.Connection())
    monkeypatch.setattr(silence, "SECONDS", 0.2)
    monkeypatch.setattr(wait, "LONG", 15)
    run.save(a_run(directory=str(scope)))
    started: list[subprocess.Popen[str]] = []

    def do() -> tuple[subprocess.Popen[str], threading.Thread, list[SilentError]]:
        argv = [sys.executable, "-c", KEEPER, str(path)]
        keeper = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        started.append(keeper)
        eventually(path.exists)
        raised: list[SilentError] = []

        def wait_for_end() -> None:
            try:
                wait.wait_for("1a2b3c4d")
            except SilentError as error:
                raised.append(error)

        waiting = threading.Thread(target=wait_for_end, daemon=True)
        waiting.start()
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "answered\n"
        return keeper, waiting, raised

    yield do
    for keeper in started:
        keeper.kill()
        keeper.communicate()


def test_a_keeper_that_stays_stopped_is_reported_and_one_that_goes_on_is_not(begin: Begin) -> None:
    keeper, waiting, raised = begin()
    for _ in range(3):
        os.kill(keeper.pid, signal.SIGSTOP)
        eventually(lambda: ") T " in text_of(f"/proc/{keeper.pid}/stat"))
        waiting.join(0.5)
        os.kill(keeper.pid, signal.SIGCONT)
        eventually(lambda: ") S " in text_of(f"/proc/{keeper.pid}/stat"))
        waiting.join(0.5)
    assert waiting.is_alive(), "it was stopped for a moment only"
    os.kill(keeper.pid, signal.SIGSTOP)
    waiting.join(30)
    assert f"the keeper (pid {keeper.pid}) is stopped" in str(raised[0])


def test_an_idle_keeper_is_waited_for_and_hangs_once_the_run_is_over(
    begin: Begin, scope: pathlib.Path
) -> None:
    keeper, waiting, raised = begin()
    waiting.join(2)
    assert waiting.is_alive(), "the run goes on"
    (scope / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    waiting.join(30)
    assert f"the keeper (pid {keeper.pid}) has done nothing for" in str(raised[0])
