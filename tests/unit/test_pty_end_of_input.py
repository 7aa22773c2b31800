"""An end-of-file that a program loses by leaving canonical mode is typed again, and no other."""

import errno
import os
import pty
import select
import termios
import tty

import pytest

from scopekeeper.keeper.exec import end_of_input
from scopekeeper.keeper.exec.end_of_input import EndOfInput

END = b"\x04"


class Loop:
    """A clock that moves when the test lets it."""

    def __init__(self):
        self.now = 0.0
        self.due = []

    def time(self):
        return self.now

    def call_later(self, seconds, call):
        handle = Handle(self.now + seconds, call, self.due)
        self.due.append(handle)
        return handle

    def turn(self):
        """Make the next call; False if there is none."""
        if not self.due:
            return False
        handle = self.due.pop(0)
        self.now = handle.when
        handle.call()
        return True


class Handle:
    def __init__(self, when, call, due):
        self.when, self.call, self._due = when, call, due

    def cancel(self):
        if self in self._due:
            self._due.remove(self)


class Typed:
    """A terminal with an end-of-file that nobody has read yet."""

    def __init__(self):
        self.loop = Loop()
        self.master, self.slave = pty.openpty()
        attributes = termios.tcgetattr(self.slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self.slave, termios.TCSANOW, attributes)
        os.write(self.master, END)
        self.end = EndOfInput(self.loop, self.master, lambda: os.write(self.master, END))

    def read(self):
        """Return what a program reads, None if it would wait."""
        poll = select.poll()
        poll.register(self.slave, select.POLLIN)
        return os.read(self.slave, 100) if poll.poll(0) else None

    def close(self):
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def typed():
    made = Typed()
    yield made
    made.close()


def test_a_program_that_leaves_canonical_mode_first_gets_it_again(typed):
    for _ in range(5):
        assert typed.loop.turn()
    tty.setraw(typed.slave, termios.TCSADRAIN)
    assert typed.read() == b"\0", "what the kernel makes of it"
    assert typed.read() is None
    assert typed.loop.turn()
    assert typed.read() == END
    assert not typed.loop.turn(), "it is typed once"


def test_a_program_that_has_read_it_gets_no_other(typed):
    assert typed.loop.turn()
    assert typed.read() == b""
    assert typed.loop.turn()
    assert not typed.loop.turn()
    tty.setraw(typed.slave, termios.TCSADRAIN)
    assert typed.read() is None


def test_a_program_that_never_reads_is_watched_for_some_seconds(typed):
    looks = 0
    while typed.loop.turn():
        looks += 1
    assert 10 < typed.loop.now < 11
    assert looks < 300
    assert typed.read() == b""


def test_it_opens_nothing_that_stays(typed):
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        assert typed.loop.turn()
    assert os.listdir("/proc/self/fd") == before


def test_a_cancelled_one_looks_no_more(typed):
    typed.end.cancel()
    assert not typed.loop.turn()


def test_a_terminal_that_its_program_has_for_itself_is_left_alone(typed, monkeypatch):
    def busy(*_):  # TIOCEXCL
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(end_of_input.fcntl, "ioctl", busy)
    assert typed.loop.turn()
    assert not typed.loop.turn()


def test_a_terminal_that_is_gone_ends_it(typed):
    master, slave = pty.openpty()
    os.close(slave)
    os.close(master)
    EndOfInput(typed.loop, master, lambda: pytest.fail("typed"))
    typed.end.cancel()
    assert typed.loop.turn()
    assert not typed.loop.turn()
