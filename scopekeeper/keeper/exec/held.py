"""The descriptors of one run: moves its output into the log, and input of clients to it.

Output moves from the terminal to a staging pipe, and from there to the log, by splice(2) alone. All
three outlive the keeper and each move is atomic: killed between any two system calls, the keeper
loses nothing, and the next one duplicates nothing.
"""

import array
import asyncio
import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass

from scopekeeper.exec.log import Log
from scopekeeper.keeper.exec.end_of_input import EndOfInput, attributes_of, edits_lines

_PAGE = 4096
"""A terminal returns no more at once (N_TTY_BUF_SIZE), and a pipe of a user over the limit
pipe-user-pages-soft holds hardly more."""
_AT_ONCE = 16
"""Moves before the event loop continues."""
_AGAIN_SECONDS = 1.0
"""Pause before reading again from a terminal that no process has open."""


@dataclass(slots=True)
class Descriptors:
    """The descriptors of a run; -1 means absent or closed.

    With a terminal, output and input are its master, and there is a staging pipe; else they are
    the ends of the pipes that are the command's output and input.
    """

    output: int
    input: int = -1
    staged: int = -1
    """The end of the staging pipe to read from."""
    staging: int = -1
    """The end to write to."""

    @property
    def is_terminal(self) -> bool:
        """Whether the run has a terminal."""
        return self.staging >= 0

    @property
    def all(self) -> list[int]:
        """The open descriptors, each once."""
        found = (self.output, self.input, self.staged, self.staging)
        return [fd for fd in dict.fromkeys(found) if fd >= 0]

    def stage(self) -> None:
        """Make the staging pipe, of one page."""
        self.staged, self.staging = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.fcntl(self.staging, fcntl.F_SETPIPE_SZ, _PAGE)

    def unstage(self) -> None:
        """Close the staging pipe, if any; the caller owns the other descriptors."""
        for fd in (self.staged, self.staging):
            if fd >= 0:
                os.close(fd)
        self.staged = self.staging = -1

    def close(self) -> None:
        """Close all."""
        for fd in self.all:
            os.close(fd)
        self.output = self.input = self.staged = self.staging = -1


def recognise(descriptors: list[int]) -> Descriptors | None:
    """Recognise descriptors from the store; None if some are missing."""
    found = Descriptors(-1)
    for fd in descriptors:
        reads = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        if os.isatty(fd):
            found.output = found.input = fd
        elif reads:
            found.staged = fd
        else:
            found.staging = fd
    if found.output >= 0:
        return found if found.staged >= 0 and found.staging >= 0 else None
    if found.staged < 0:
        return None
    return Descriptors(found.staged, found.staging)


class Held:
    """Moves the output of one run; on_move is called after each move.

    input_closed is called after the input pipe was closed, so that other copies are closed, too.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptors: Descriptors,
        log: Log,
        on_move: Callable[[], None],
        input_closed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._fds = descriptors
        self._log = log
        self._on_move = on_move
        self._input_closed = input_closed
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[Callable[[], None]] = []
        self._typed = b""
        self._end: EndOfInput | None = None
        for fd in descriptors.all:
            os.set_blocking(fd, False)
        if descriptors.is_terminal:
            self._unstage()  # output that the previous keeper staged
        loop.add_reader(descriptors.output, self._pump)

    @property
    def is_open(self) -> bool:
        """Whether any descriptor is open."""
        return bool(self._fds.all)

    def let_go(self) -> None:
        """Close the descriptors; a terminal hangs up on the processes that still use it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._end is not None:
            self._end.cancel()
        if self._fds.output >= 0:
            self._loop.remove_reader(self._fds.output)
        if self._fds.input >= 0:
            self._loop.remove_writer(self._fds.input)
        self._fds.close()
        self._wake_writers()

    def _pump(self) -> None:
        """Move some output."""
        self._move(_AT_ONCE)

    def drain(self) -> None:
        """Move all output that is there now."""
        # the output pipe may have ended while the input pipe is open
        while self._fds.output >= 0 and self._move(_AT_ONCE):
            pass

    def _pause(self) -> None:
        """Stop reading: no process has the terminal open, but one may open it again."""
        self._loop.remove_reader(self._fds.output)
        self._timer = self._loop.call_later(_AGAIN_SECONDS, self._resume)

    def _resume(self) -> None:
        self._timer = None
        if self._fds.output >= 0:
            self._loop.add_reader(self._fds.output, self._pump)

    def _move(self, most: int) -> bool:
        """Move at most so many pieces; False if there is no more for now."""
        moved = False
        more = True
        try:
            for _ in range(most):
                more = self._move_one()
                moved = moved or more
                if not more:
                    break
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            more = False
            if self._timer is None and self._fds.output >= 0:
                self._pause()
        if moved:
            self._on_move()
        return more

    def _move_one(self) -> bool:
        if not self._fds.is_terminal:
            return self._move_pipe()
        try:
            moved = os.splice(self._fds.output, self._fds.staging, _PAGE)
        except BlockingIOError:
            return False
        if moved:
            self._log.splice(self._fds.staged, moved)
        return moved > 0

    def _move_pipe(self) -> bool:
        there = _waiting_in(self._fds.output)
        if there:
            self._log.splice(self._fds.output, there)
            return True
        if _has_hung_up(self._fds.output):
            self._loop.remove_reader(self._fds.output)
            os.close(self._fds.output)
            self._fds.output = -1
        return False

    def _unstage(self) -> None:
        there = _waiting_in(self._fds.staged)
        if there:
            self._log.splice(self._fds.staged, there)

    # Input

    def write(self, data: bytes) -> int:
        """Write input and return how much was taken; raises OSError if the input is closed."""
        if self._fds.input < 0:
            raise OSError(errno.EPIPE, "its input is closed")
        try:
            written = os.write(self._fds.input, data)
        except BlockingIOError:
            return 0
        self._typed = data[written - 1 : written] or self._typed
        return written

    def when_writable(self, call: Callable[[], None]) -> None:
        """Call once when more input may be taken, or the input is closed."""
        if self._fds.input < 0:
            self._loop.call_soon(call)
            return
        if not self._waiting:
            self._loop.add_writer(self._fds.input, self._wake_writers)
        self._waiting.append(call)

    def _wake_writers(self) -> None:
        if self._fds.input >= 0:
            self._loop.remove_writer(self._fds.input)
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    def end_input(self) -> bytes:
        """Close an input pipe; for a terminal, return the end-of-file characters to write."""
        if self._fds.is_terminal:
            return self._end_of_file()
        if self._fds.input >= 0:
            self._loop.remove_writer(self._fds.input)
            os.close(self._fds.input)
            self._fds.input = -1
            self._input_closed()
            self._wake_writers()
        return b""

    def _end_of_file(self) -> bytes:
        """Return the characters that end a terminal's input.

        After the beginning of a line, the first VEOF only passes that on (termios(3)); the second
        is the end.
        """
        attributes = attributes_of(self._fds.input)
        lines, characters = edits_lines(attributes), attributes[6]
        end, *others = (
            each if isinstance(each, bytes) else bytes([each])
            for each in (characters[number] for number in (termios.VEOF, termios.VEOL))
        )
        begun = self._typed not in (b"", b"\n", b"\r", end, *others)
        if lines:
            self._watch(end)
        return end * 2 if lines and begun else end

    def _watch(self, end: bytes) -> None:
        def type_again() -> None:
            with contextlib.suppress(OSError):
                self.write(end)

        if self._end is not None:
            self._end.cancel()
        self._end = EndOfInput(self._loop, self._fds.input, type_again)

    @property
    def size(self) -> tuple[int, int] | None:
        """Columns and rows of the terminal's window, which its command can change, too."""
        if not self._fds.is_terminal:
            return None
        packed = fcntl.ioctl(self._fds.output, termios.TIOCGWINSZ, bytes(8))
        rows, cols, _, _ = struct.unpack("4H", packed)
        return cols, rows

    def resize(self, cols: int, rows: int) -> None:
        """Set the size of the terminal's window; the kernel sends SIGWINCH."""
        if self._fds.is_terminal:
            fcntl.ioctl(self._fds.output, termios.TIOCSWINSZ, struct.pack("4H", rows, cols, 0, 0))


def _waiting_in(pipe: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def _has_hung_up(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, 0)
    return any(mask & select.POLLHUP for _, mask in poll.poll(0)) and not _waiting_in(pipe)
