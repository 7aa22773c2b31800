"""The local terminal: raw while attached, and restored whatever happens."""

import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
import time
from types import FrameType
from typing import Any, Self

from scopekeeper.exec.modes import Modes

_DEADLY = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_PATIENCE = 0.5
"""Seconds to restore a terminal that takes no output (Ctrl-S)."""
_PIECE = 4096
"""Bytes of one write: a pipe that is ready takes so many without blocking."""


def raw(attributes: list[Any]) -> list[Any]:
    """Return terminal attributes made raw, as cfmakeraw(3) does."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = attributes
    iflag &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    oflag &= ~termios.OPOST
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]


class Terminal:
    """The user's terminal; as a context manager it is raw if input is a terminal.

    SIGTERM, SIGHUP, SIGINT and SIGQUIT restore it and then end this process as usual. ``wake``
    becomes readable when a signal arrives. Input and output need not be terminals.
    """

    def __init__(self, stdin: int = 0, stdout: int = 1) -> None:
        self.stdin, self.stdout = stdin, stdout
        self.typed = os.isatty(stdin)
        """Whether input is a terminal."""
        self.shown = os.isatty(stdout)
        """Whether output is a terminal."""
        self.modes = Modes()
        self.last_output = b""
        """Written after the terminal is restored, if output is a terminal."""
        self.last_words = b""
        """Written to stderr before a signal other than a hangup ends this process."""
        self._perhaps = b""
        self.wake = -1
        self._waker = -1
        self._out = -1
        self._resized = False
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        self._out = _own(self.stdout) if self.shown else self.stdout
        self.wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        if self.typed:
            with contextlib.suppress(termios.error):
                self._before = termios.tcgetattr(self.stdin)
        for number in _DEADLY:
            # signals that are ignored (nohup) stay ignored
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._die)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._note)
        self._handlers[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._again)
        self._make_raw()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        for fd in {self.wake, self._waker, self._out} - {self.stdout}:
            os.close(fd)

    def size(self) -> tuple[int, int] | None:
        """Return columns and rows; None without a window."""
        for fd in (self.stdout, self.stdin):
            with contextlib.suppress(OSError):
                packed = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
                rows, cols, _, _ = struct.unpack("HHHH", packed)
                if cols and rows:
                    return cols, rows
        return None

    def resized(self) -> bool:
        """Return whether the window was resized since the last call; empties ``wake``."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.wake, 512):
                pass
        changed, self._resized = self._resized, False
        return changed

    @property
    def never_blocks(self) -> bool:
        """Whether ``write`` never blocks."""
        return self._out not in (-1, self.stdout)

    @property
    def out(self) -> int:
        """The descriptor to wait for before ``write``."""
        return self._out

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write as much as possible now, and return how much; raises OSError.

        Unless it never blocks, call it when ``out`` is writable.
        """
        piece = bytes(memoryview(data)[:_PIECE])
        self._perhaps = piece
        try:
            count = os.write(self._out, piece)
        except BlockingIOError:
            count = 0
        if self.shown:
            self.modes.feed(piece[:count])
        self._perhaps = b""
        return count

    def restore(self) -> None:
        """Turn off what the output turned on, and restore the terminal's attributes; once."""
        before, self._before = self._before, None
        if self.shown:
            # a signal can arrive between the write and this
            self.modes.feed(self._perhaps)
            self._drain(self.modes.undo() + self.last_output)
            self.modes, self.last_output = Modes(), b""
        if before is not None:
            with contextlib.suppress(termios.error):
                # not TCSADRAIN: it waits forever for a stopped terminal
                termios.tcsetattr(self.stdin, termios.TCSANOW, before)

    def _drain(self, data: bytes) -> None:
        end = time.monotonic() + _PATIENCE
        with contextlib.suppress(OSError):
            while data and (left := end - time.monotonic()) > 0:
                if select.select((), (self._out,), (), left)[1]:
                    data = data[os.write(self._out, data[:_PIECE]) :]

    def _make_raw(self) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.stdin, termios.TCSANOW, raw(self._before))

    def _die(self, number: int, _: FrameType | None) -> None:
        self.restore()
        if number != signal.SIGHUP:
            with contextlib.suppress(OSError):
                os.write(2, b"\n" * self.shown + self.last_words)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _note(self, _: int, __: FrameType | None) -> None:
        self._resized = True

    def _again(self, _: int, __: FrameType | None) -> None:
        """Make it raw again after a stop: the shell has set its own attributes."""
        self._make_raw()
        self._resized = True


def _own(fd: int) -> int:
    """Open a terminal a second time, non-blocking; the descriptor itself if that fails.

    The given descriptor shares its flags with the shell, whose writes would fail with EAGAIN.
    """
    try:
        flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:
        return fd
