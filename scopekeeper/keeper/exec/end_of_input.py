"""Types a terminal's end-of-file again where a program did not get it.

In canonical mode the kernel keeps the character as a mark in the input. If the program leaves that
mode before it reads, as bash does for its prompt, it finds a NUL there, and waits. So an end of
input that comes before the prompt would be lost. Seen with Linux 6.18.
"""

import asyncio
import fcntl
import os
import select
import termios
from collections.abc import Callable
from typing import Any

_TIOCGPTPEER = 0x5441
"""Open the other side of a terminal, whatever is mounted here; since Linux 4.13."""
_FIRST = 0.001
"""Seconds to the first look: a program that waits for input has read it by then."""
_BETWEEN = 0.05
_LONGEST = 10.0
"""Seconds in which a program sets its terminal after its start."""


def attributes_of(terminal: int) -> list[Any]:
    """Return the attributes of a terminal, as tcgetattr does; raises OSError."""
    try:
        return termios.tcgetattr(terminal)
    except termios.error as error:  # it is not an OSError
        raise OSError(*error.args) from None


def edits_lines(attributes: list[Any]) -> bool:
    """Return whether a terminal with these attributes is in canonical mode."""
    return bool(attributes[3] & termios.ICANON)


class EndOfInput:
    """Watches one end-of-file that was typed in canonical mode until it is read or lost."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, terminal: int, type_again: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._terminal = terminal
        self._type_again = type_again
        self._until = loop.time() + _LONGEST
        self._pause = _FIRST
        self._timer = loop.call_later(self._pause, self._look)

    def cancel(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _look(self) -> None:
        try:
            if not edits_lines(attributes_of(self._terminal)):
                self._type_again()
                return
            if not _has_unread_input(self._terminal):
                return
        except OSError:
            return  # the terminal is closed, or its program has it for itself
        if self._loop.time() < self._until:
            self._pause = min(self._pause * 2, _BETWEEN)
            self._timer = self._loop.call_later(self._pause, self._look)


def _has_unread_input(terminal: int) -> bool:
    """Return whether a line, or its end, waits for the program; raises OSError."""
    other = fcntl.ioctl(terminal, _TIOCGPTPEER, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(other, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))
    finally:
        os.close(other)
