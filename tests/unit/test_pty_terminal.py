"""The user's terminal is right again, whatever the program and whatever ended us."""

import os
import pathlib
import select
import signal
import termios
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.exec.modes import Modes
from scopekeeper.exec.terminal import Terminal
from tests.machine import PATIENCE
from tests.unit.terminals import other_end, read_until, set_size


def _undone(*pieces: bytes) -> bytes:
    modes = Modes()
    for piece in pieces:
        modes.feed(piece)
    return modes.undo()


def test_where_nothing_was_turned_on_nothing_is_turned_off() -> None:
    assert _undone(b"plain \x1b[31mred\x1b[0m\r\n\x1b[2J\x1b[H\x1b]2;title\x07") == b""


@pytest.mark.parametrize(
    ("on", "off"),
    [
        (b"\x1b[?1049h", b"\x1b[?1049l"),
        (b"\x1b[?25l", b"\x1b[?25h"),
        (b"\x1b[?1000;1006h", b"\x1b[?1000l\x1b[?1006l"),
        (b"\x1b[?2004h", b"\x1b[?2004l"),
        (b"\x1b[?1h\x1b=", b"\x1b[?1l\x1b>"),
        (b"\x1b[?7l", b"\x1b[?7h"),
        (b"\x1b[1;31m", b"\x1b[m"),
        (b"\x1b[2;10r", b"\x1b7\x1b[r\x1b8"),
        (b"\x1b(0", b"\x1b(B"),
        (b"\x1b[>1u", b"\x1b[<u"),
        (b"\x1b[>4;2m", b"\x1b[>4m"),
        (b"\x1b[5 q", b"\x1b[0 q"),
    ],
)
def test_what_was_turned_on_is_turned_off_wherever_it_was_cut(on: bytes, off: bytes) -> None:
    for cut in range(len(on) + 1):
        assert _undone(b"x" + on[:cut], on[cut:] + b"y") == off
    assert _undone(*(bytes([byte]) for byte in on)) == off


def test_what_the_program_turned_off_itself_is_left() -> None:
    assert _undone(b"\x1b[?1049h\x1b[?25l\x1b=\x1b[?25h\x1b[?1049l\x1b>") == b""


def test_a_reset_turns_all_off() -> None:
    assert _undone(b"\x1b[?2004h\x1b[1m\x1b=\x1bc") == b""


def test_the_alternate_screen_is_left_last() -> None:
    assert _undone(b"\x1b[?1049h\x1b[?1h\x1b[?25l").endswith(b"\x1b[?1049l")


@given(st.lists(st.binary(max_size=30)))
def test_no_output_breaks_it(pieces: list[bytes]) -> None:
    _undone(*pieces)


def _child(body: Callable[[], None]) -> tuple[int, int, list[object]]:
    """Run something at a new terminal; return its pid, our end, and the first attributes.

    It does not lead a session: the kernel throws away what a terminal has not been read of yet
    when its session's leader ends, which is the user's shell.
    """
    fd, slave = os.openpty()
    before = termios.tcgetattr(slave)
    pid = os.fork()
    if not pid:
        try:
            os.dup2(slave, 0)
            os.dup2(slave, 1)
            os.close(fd)
            os.read(0, 1)
            body()
        finally:
            os._exit(7)
    os.close(slave)
    return pid, fd, before


def _held() -> None:
    with Terminal() as terminal:
        terminal.write(b"\x1b[?1049h\x1b[?25lREADY")
        # as attach waits: a signal that arrives just before a sleep does not end it
        select.select([terminal.wake], [], [], 1000)


def _failing() -> None:
    with Terminal() as terminal:
        terminal.write(b"\x1b[?1049hREADY")
        raise ValueError


def _sized() -> None:
    with Terminal() as terminal:
        terminal.write(b"READY")
        while not terminal.resized():
            time.sleep(0.01)
        terminal.write(f"SIZE {terminal.size()}".encode())


def _start(body: Callable[[], None]) -> tuple[int, int, list[object]]:
    pid, fd, before = _child(body)
    set_size(fd, 90, 30)
    os.write(fd, b"\n")
    assert b"READY" in read_until(fd, time.monotonic() + PATIENCE, wanted=b"READY")
    return pid, fd, before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_restores_the_terminal_and_then_kills(number: signal.Signals) -> None:
    pid, fd, before = _start(_held)
    slave = other_end(fd)
    assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
    os.kill(pid, number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -number
    assert termios.tcgetattr(slave) == before
    rest = read_until(fd, time.monotonic() + PATIENCE, wanted=b"1049l")
    assert rest == b"\x1b[?25h\x1b[?1049l"


def test_a_failure_restores_the_terminal() -> None:
    pid, fd, before = _start(_failing)
    slave = other_end(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert termios.tcgetattr(slave) == before


def test_a_terminal_that_takes_nothing_does_not_keep_us() -> None:
    pid, fd, before = _start(_held)
    slave = other_end(fd)
    termios.tcflow(slave, termios.TCOOFF)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    assert termios.tcgetattr(slave) == before


def test_a_new_window_size_is_noticed() -> None:
    pid, fd, _ = _start(_sized)
    set_size(fd, 100, 40)
    os.kill(pid, signal.SIGWINCH)
    assert b"SIZE (100, 40)" in read_until(fd, time.monotonic() + PATIENCE, wanted=b"(100, 40)")
    os.waitpid(pid, 0)


def test_the_flags_of_the_shared_terminal_stay() -> None:
    pid, fd, _ = _start(_held)
    told = pathlib.Path(f"/proc/{pid}/fdinfo/1").read_text()
    flags = next(line for line in told.splitlines() if line.startswith("flags"))
    assert not int(flags.split()[1], 8) & os.O_NONBLOCK
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(fd)
