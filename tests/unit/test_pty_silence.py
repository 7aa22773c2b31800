"""A keeper that does nothing with a request is reported; one that is only slow is waited for."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from scopekeeper.exec import silence
from scopekeeper.exec.silence import SilentError, await_answer

KEEPER = """
import sys, time
busy = float(sys.argv[1])
end = time.process_time() + busy
while time.process_time() < end:
    pass
if busy:
    print("answer", flush=True)
time.sleep(1000)
"""


Start = Callable[[float], tuple[socket.socket, int]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a process that uses so much CPU before it answers; with 0 it never does."""
    monkeypatch.setattr(silence, "SECONDS", 0.3)
    ours, theirs = socket.socketpair()
    begun: list[subprocess.Popen[bytes]] = []

    def do(busy: float) -> tuple[socket.socket, int]:
        argv = [sys.executable, "-IS", "-c", KEEPER, str(busy)]
        begun.append(subprocess.Popen(argv, stdout=theirs))
        return ours, begun[0].pid

    yield do
    for each in begun:
        each.kill()
        each.wait()
    ours.close()
    theirs.close()


def test_one_that_is_busy_is_waited_for(start: Start) -> None:
    connection, pid = start(2.0)
    await_answer(connection, pid)
    assert connection.recv(100) == b"answer\n"


def test_one_that_does_nothing_is_reported_with_how_to_end_it(start: Start) -> None:
    connection, pid = start(0.0)
    with pytest.raises(SilentError) as caught:
        await_answer(connection, pid)
    assert f"the keeper (pid {pid}) has done nothing" in str(caught.value)
    assert f"kill -KILL {pid}" in caught.value.hint


def test_one_that_is_stopped_is_reported_with_how_to_continue_it(start: Start) -> None:
    connection, pid = start(0.0)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(SilentError) as caught:
        await_answer(connection, pid)
    assert f"the keeper (pid {pid}) is stopped" in str(caught.value)
    assert f"kill -CONT {pid}" in caught.value.hint


def test_one_that_hangs_up_is_no_silence(start: Start) -> None:
    connection, pid = start(0.0)
    connection.shutdown(socket.SHUT_RD)
    await_answer(connection, pid)
    assert connection.recv(100) == b""
