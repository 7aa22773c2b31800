"""A person at a terminal: reads it all the time, and draws what would be visible."""

import contextlib
import copy
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable

import pyte

from tests.machine import PATIENCE, children_of, eventually, state_of

_ALTERNATE = 1049 << 5
"""As pyte stores private modes."""
_PIECE = 1 << 16
_SEEN = 20_000
_LONG = re.compile(rb"[^\x1b]{%d,}" % _SEEN)
"""More than fits a screen: pyte draws only some 300 kB a second."""
_LONGEST = 2000
"""Most bytes of an expected text: what was searched is not searched again."""
_SHELL = '"$@"; echo $? >/proc/self/fd/{0}; exec sleep infinity'
"""The shell stays, as a person's does: the kernel hangs up a terminal whose leader ends."""


class Screen(pyte.Screen):
    """pyte's screen with an alternate screen."""

    def reset(self) -> None:
        super().reset()
        self._main = None

    def set_mode(self, *modes: int, **how: bool) -> None:
        before = set(self.mode)
        super().set_mode(*modes, **how)
        if _ALTERNATE in self.mode - before:
            self._main = copy.deepcopy(self.buffer), copy.copy(self.cursor)
            self.erase_in_display(2)

    def reset_mode(self, *modes: int, **how: bool) -> None:
        before = set(self.mode)
        super().reset_mode(*modes, **how)
        if _ALTERNATE in before - self.mode and self._main is not None:
            self.buffer, cursor = self._main
            self.cursor.x, self.cursor.y, self._main = cursor.x, cursor.y, None
            self.dirty.update(range(self.lines))

    def select_graphic_rendition(self, *attributes: int, **how: bool) -> None:
        """Set colours; ignore vim's requests about the keyboard, which pyte takes for colours."""
        if not how:
            super().select_graphic_rendition(*attributes)

    def report_device_status(self, mode: int, **how: bool) -> None:
        """Answer nothing: newer multiplexers ask for what pyte does not know."""


class Viewer:
    """A terminal whose shell runs one command in the foreground."""

    def __init__(self, argv: list[str], cols: int = 80, rows: int = 24, **environment: str) -> None:
        self.fd, self.terminal = os.openpty()
        self._screen = Screen(cols, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._set_size(cols, rows)
        self._modes = set(self._screen.mode)
        self._attributes = termios.tcgetattr(self.terminal)
        self._status, status = os.pipe2(os.O_CLOEXEC)
        self._shell = subprocess.Popen(
            ["setsid", "--ctty", "sh", "-c", _SHELL.format(status), "sh", *argv],
            stdin=self.terminal, stdout=self.terminal, stderr=self.terminal, pass_fds=(status,),
            env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PS1": "$ ",
                 **environment},
        )  # fmt: skip
        os.close(status)
        self.raw = bytearray()
        """Everything that came to the terminal."""
        self._drawn = self._from = 0
        self._change = threading.Condition()
        self._reads, self._over = True, False
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    # What the terminal does

    def _read(self) -> None:
        while not self._over:
            watched = [self.fd, self._wake] if self._reads else [self._wake]
            ready = select.select(watched, [], [])[0]
            if self._wake in ready:
                os.read(self._wake, _PIECE)
            if self.fd in ready and not self._over:
                try:
                    data = os.read(self.fd, _PIECE)
                except OSError:
                    return
                with self._change:
                    self.raw += data
                    self._change.notify_all()

    def stalls(self, stalled: bool = True) -> None:
        """Stop reading, as with Ctrl-S; or continue."""
        self._reads = not stalled
        os.write(self._waker, b"x")

    def _set_size(self, cols: int, rows: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, cols, 0, 0))

    # What the person does

    def type(self, keys: str | bytes) -> None:
        """Type something; return when the terminal has taken all."""
        data = keys.encode() if isinstance(keys, str) else keys
        while data:
            data = data[os.write(self.fd, data) :]

    def resize(self, cols: int, rows: int) -> None:
        """Change the size of the window."""
        self.picture()
        self._screen.resize(rows, cols)
        self._set_size(cols, rows)

    @property
    def command(self) -> int:
        """The pid of the command."""
        (pid,) = children_of(self._shell.pid)
        return pid

    def signal(self, name: str) -> None:
        """Send a signal to the command, not to the shell."""
        os.kill(self.command, signal.Signals[name])

    def put_right(self) -> None:
        """Reset the terminal's attributes, as a shell does after its command was stopped."""
        termios.tcsetattr(self.terminal, termios.TCSANOW, self._attributes)

    def hang_up(self) -> None:
        """Close the window: the foreground gets SIGHUP."""
        self._stop_reading()
        os.close(self.terminal)
        os.close(self.fd)
        self.fd = -1

    # What the person sees

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Wait until a pattern came to the terminal, after the last expected one."""
        wanted = re.compile(pattern.encode(), re.DOTALL)
        at = self._from

        def found() -> re.Match[bytes] | None:
            nonlocal at
            begin, at = at, max(len(self.raw) - _LONGEST, at)
            return wanted.search(self.raw, begin)

        with self._change:
            came = self._change.wait_for(found, PATIENCE)
            assert came, f"{pattern!r} did not come: {bytes(self.raw[self._from :])[-3000:]!r}"
            self._from = came.end()
            return came

    def picture(self) -> list[str]:
        """Return the lines that are visible now."""
        with self._change:
            data, self._drawn = bytes(self.raw[self._drawn :]), len(self.raw)
        self._stream.feed(_LONG.sub(lambda long: long[0][-_SEEN:], data))
        return [line.rstrip() for line in self._screen.display]

    def shows(self, text: str) -> list[str]:
        """Wait until a text is visible, and return the lines."""
        return self.until(lambda lines: text in "\n".join(lines))

    def until(self, right: Callable[[list[str]], object]) -> list[str]:
        """Wait until the visible lines are right, and return them."""
        lines: list[str] = []

        def looks_right() -> object:
            lines[:] = self.picture()
            return right(lines)

        try:
            eventually(looks_right)
        except AssertionError:
            raise AssertionError("\n".join(["it shows:", *lines])) from None
        return lines

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and line of the cursor."""
        self.picture()
        return self._screen.cursor.x, self._screen.cursor.y

    # What is left

    @property
    def is_raw(self) -> bool:
        """Whether typed keys are passed on unchanged."""
        return not termios.tcgetattr(self.terminal)[3] & (termios.ICANON | termios.ECHO)

    def status(self) -> int:
        """Wait for the end of the command; return its status, and check the terminal's state."""
        assert select.select([self._status], [], [], PATIENCE)[0], bytes(self.raw[-3000:])
        status = int(os.read(self._status, 16))
        assert termios.tcgetattr(self.terminal) == self._attributes
        # its whole output is there, since the shell has reported its end
        eventually(lambda: not select.select([self.fd], [], [], 0)[0] or not self._reads)
        if self._reads:
            self.picture()
            assert self._screen.mode == self._modes, "private modes, alternate screen, cursor"
        return status

    def close(self) -> None:
        """Hang up, and end the shell and its command."""
        commands = children_of(self._shell.pid)
        if self.fd >= 0:
            self.hang_up()
        for pid in (self._shell.pid, *commands):
            if state_of(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._shell.wait()
        for fd in (self._status, self._wake, self._waker):
            os.close(fd)

    def _stop_reading(self) -> None:
        self._over = True
        os.write(self._waker, b"x")
        self._reader.join()
