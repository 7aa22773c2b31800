"""A keeper that does nothing with a request is reported; one that is only slow is waited for."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from scopekeeper.exec import silence
from scopekeeper.exec.silence import Silence, SilentError, await_answer
from tests.machine import eventually, text_of

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
    await_answer(connection, Silence(pid))
    assert connection.recv(100) == b"answer\n"


def test_one_that_does_nothing_is_reported_with_how_to_end_it(start: Start) -> None:
    connection, pid = start(0.0)
    with pytest.raises(SilentError) as caught:
        await_answer(connection, Silence(pid))
    assert f"the keeper (pid {pid}) has done nothing" in str(caught.value)
    assert f"kill -KILL {pid}" in caught.value.hint


def test_one_that_is_stopped_is_reported_with_how_to_continue_it(start: Start) -> None:
    connection, pid = start(0.0)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(SilentError) as caught:
        await_answer(connection, Silence(pid))
    assert f"the keeper (pid {pid}) is stopped" in str(caught.value)
    assert f"kill -CONT {pid}" in caught.value.hint


def test_one_that_may_have_nothing_to_send_is_waited_for_until_it_is_due(start: Start) -> None:
    connection, pid = start(0.0)
    connection.settimeout(2.0)
    with pytest.raises(TimeoutError):
        await_answer(connection, Silence(pid, is_due=lambda: False))
    connection.settimeout(None)
    looks = iter([False] * 6)
    with pytest.raises(SilentError):
        await_answer(connection, Silence(pid, is_due=lambda: next(looks, True)))
    assert next(looks, None) is None


def test_one_that_is_stopped_is_given_as_many_looks_as_are_wanted_in_a_row(start: Start) -> None:
    connection, pid = start(0.0)
    os.kill(pid, signal.SIGSTOP)
    silence = Silence(pid, stopped=3, is_due=lambda: False)
    silence.look()
    silence.look()
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: ") S " in text_of(f"/proc/{pid}/stat"))
    silence.look()
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: ") T " in text_of(f"/proc/{pid}/stat"))
    silence.look()
    with pytest.raises(SilentError, match="is stopped"):
        await_answer(connection, silence)


def test_one_that_takes_nothing_is_reported_to_who_sends(start: Start) -> None:
    connection, pid = start(0.0)
    with contextlib.suppress(BlockingIOError):
        while connection.send(bytes(1 << 16), socket.MSG_DONTWAIT):
            pass
    with pytest.raises(SilentError):
        await_answer(connection, Silence(pid), select.POLLOUT)


def test_one_that_hangs_up_is_no_silence(start: Start) -> None:
    connection, pid = start(0.0)
    connection.shutdown(socket.SHUT_RD)
    await_answer(connection, Silence(pid))
    assert connection.recv(100) == b""
