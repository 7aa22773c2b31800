"""Passes bytes between a terminal and the keeper that holds a run."""

import contextlib
import os
import select
import socket
import sys
import time

from scopekeeper.errors import UnavailableError
from scopekeeper.exec import messages, protocol
from scopekeeper.exec.client import RESTART, Connection, understood
from scopekeeper.exec.keys import Detach
from scopekeeper.exec.leave_screen import KEPT, to_own_line
from scopekeeper.exec.messages import Attached, News
from scopekeeper.exec.reach import reach_again
from scopekeeper.exec.run import Ended, end_of, load
from scopekeeper.exec.silence import LONG, SECONDS
from scopekeeper.exec.terminal import Terminal
from scopekeeper.quantities import show_bytes

_MOST = 1 << 20
"""Bytes to buffer for a slow terminal, or for a run that does not read."""
_PIECES = 16
"""Writes before input is checked for the detach keys again."""
_KEY_MILLISECONDS = 50
"""The bytes of one key arrive within this time."""
_NOTICED = 0.1
"""Seconds in which a program notices the size of its window: two changes at once are none."""
_BEGIN = SECONDS + 1.0
"""Seconds for a keeper that restarted to answer: a stopped one is noticed before that."""
_DONT_WAIT = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


def report(text: str) -> None:
    """Write a line of our own on standard error: the run's output is on the other one."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Attachment:
    """Moves bytes between a terminal and the keeper.

    It never waits for one side alone: the detach keys are read however slow the terminal is and
    however little the run reads.
    """

    def __init__(
        self, connection: Connection, terminal: Terminal, detach: Detach, *, read_only: bool
    ) -> None:
        self._connection = connection
        self._terminal = terminal
        self._detach = detach
        self._read_only = read_only
        self._shown = bytearray()
        self._sent = bytearray()
        self._last = b""
        self._listens = terminal.typed or not read_only
        self._takes_input = not read_only
        self._hung_up = False
        self._detached = False
        self.over = False
        """Whether the run has ended."""
        self.ended: Ended | None = None
        self._position = 0
        self._run_id = ""
        self._loses_output = False
        self._silence = connection.silence(stopped=LONG)
        self._look_at = 0.0

    def close(self) -> None:
        """Hang up."""
        self._connection.__exit__()

    def begin(self, run_id: str, position: int) -> Attached:
        """Request the run's output from a position on; raises ScopekeeperError.

        Raises SilentError if the keeper is stopped or hangs.
        """
        cols, rows = self._terminal.size() or (0, 0)
        wanted = {"from": position}
        answer = self._connection.ask(
            do="attach", run=run_id, cols=cols, rows=rows, read_only=self._read_only, **wanted
        )
        self._run_id = run_id
        self._silence = self._connection.silence(stopped=LONG, is_due=end_of(load(run_id)))
        self._look_at = time.monotonic() + SECONDS
        with understood():
            attached = messages.attached(answer)
        self._position = attached.position
        return attached

    def begin_again(self, run_id: str) -> None:
        """Continue with the next keeper after this one hung up; raises UnavailableError.

        Input that is not sent yet is dropped: the run may have read part of it.
        """
        self._hung_up, self._takes_input = False, not self._read_only
        self._sent.clear()
        deadline = time.monotonic() + RESTART
        while True:
            self.close()
            try:
                self._connection = reach_again(RESTART)
                self._connection.socket.settimeout(_BEGIN)
                now = self.begin(run_id, self._position)
                self._connection.socket.settimeout(None)
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    hint = "the run may go on: attach again"
                    raise UnavailableError(error.message, hint) from None
            else:
                if now.lost:
                    self.report_lost()
                return

    def report_lost(self) -> None:
        """Report that no more output comes, below what is drawn."""
        hint = self._detach.hint if self._terminal.typed else ""
        text = f"[{messages.lost_words(self._run_id)}{hint}]"
        if self._terminal.shown:
            self.show(f"\r\n{text}\r\n".encode())
        else:
            report(text)

    def show(self, data: bytes) -> None:
        """Queue output for the terminal."""
        if self._loses_output:
            return
        self._shown += data
        self._last = (self._last + data[-KEPT:])[-KEPT:]

    def resize(self) -> None:
        """Send the keeper the size of the window."""
        size = self._terminal.size()
        if size is not None and not self._read_only:
            self._sent += protocol.message(resize=size)

    def have_redrawn(self, cols: int, rows: int) -> None:
        """Make a full-screen program redraw itself: its window is a row smaller for a moment."""
        if not self._read_only and rows > 1:
            self._sent += protocol.message(resize=(cols, rows - 1))
            self._send()
            time.sleep(_NOTICED)
            self.resize()

    def last_output(self) -> bytes:
        """Return the bytes to write after the terminal is restored."""
        return to_own_line(self._last, alternate=self._terminal.modes.alternate)

    def stay(self) -> bool:
        """Stay attached until the run ends or the detach keys are typed.

        False if the keeper hung up; raises BrokenPipeError if nobody reads the output.
        """
        self._receive()
        while not self._detached:
            if not self._shown and (self.over or self._hung_up):
                break
            self._turn()
        return self.over or self._detached

    def _turn(self) -> None:
        terminal, connection = self._terminal, self._connection.socket.fileno()
        waited = select.poll()
        waited.register(terminal.wake, select.POLLIN)
        if self._listens and (terminal.typed or len(self._sent) < _MOST):
            waited.register(terminal.stdin, select.POLLIN)
        flags = select.POLLIN if len(self._shown) < _MOST else 0
        flags |= select.POLLOUT if self._sent else 0
        if flags and not self._hung_up and not self.over:
            waited.register(connection, flags)
        if self._shown:
            waited.register(terminal.out, select.POLLOUT)
        ready = dict(waited.poll(self._milliseconds()))
        if terminal.wake in ready and terminal.resized():
            self.resize()
        if terminal.stdin in ready:
            self._listen()
        elif not ready:
            self._pass_on(self._detach.release())
        if connection not in ready and time.monotonic() >= self._look_at and not self.over:
            self._silence.look()
            self._look_at = time.monotonic() + SECONDS
        # write at once what can be written: each further turn makes the echo slower
        if self._sent:
            self._send()
        if ready.get(connection, 0) & ~select.POLLOUT and flags & select.POLLIN:
            self._receive()
        if self._shown and (terminal.out in ready or terminal.never_blocks):
            self._write()

    def _milliseconds(self) -> float:
        """Return how long to wait for anything: until the next key, or look at the keeper."""
        if self._detach.waits:
            return _KEY_MILLISECONDS
        return max(self._look_at - time.monotonic(), 0.0) * 1000

    def _listen(self) -> None:
        try:
            data = os.read(self._terminal.stdin, protocol.PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._listens = False
            if self._terminal.typed:
                self._detached = True  # the terminal is gone
            else:
                self._sent += protocol.frame(protocol.END)
            return
        if self._terminal.typed:
            data, self._detached = self._detach.feed(data)
        self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        # input beyond some size is lost if the run does not read, as at any terminal
        if data and self._takes_input and len(self._sent) < _MOST:
            self._sent += protocol.frame(protocol.DATA, data)

    def _send(self) -> None:
        try:
            sent = self._connection.socket.send(self._sent[: protocol.PIECE], _DONT_WAIT)
        except BlockingIOError:
            return
        except OSError:
            # it hung up; there may still be something to read
            self._takes_input, sent = False, len(self._sent)
        del self._sent[:sent]

    def _receive(self) -> None:
        frames = None
        with contextlib.suppress(UnavailableError):
            frames = self._connection.take()
        self._hung_up = frames is None
        self._look_at = time.monotonic() + SECONDS
        for kind, payload in frames or ():
            if kind == protocol.DATA:
                self._position += len(payload)
                self.show(payload)
            elif kind == protocol.JSON:
                with understood():
                    self._hear(messages.news(protocol.parse(payload)))

    def _hear(self, news: News) -> None:
        if news.over:
            self.over, self.ended = True, news.ended
        elif news.missed:
            self._position += news.missed
            self._tell_missed(news.missed)

    def _tell_missed(self, count: int) -> None:
        """Report missing output, except over a full-screen picture, which is redrawn anyway."""
        text = f"[{show_bytes(count)} of output are missing here]"
        if not self._terminal.shown:
            report(text)
        elif not self._terminal.modes.alternate:
            self.show(f"\r\n{text}\r\n".encode())

    def _lose_output(self, error: OSError) -> None:
        """Stop showing output, as on a full disk, but still wait for the end of the run."""
        self._loses_output = True
        self._shown.clear()
        why = error.strerror or str(error)
        report(f"[its output cannot be shown: {why}; `scopekeeper logs {self._run_id}` has it]")

    def _write(self) -> None:
        for _ in range(_PIECES if self._terminal.never_blocks else 1):
            try:
                written = self._terminal.write(self._shown)
            except BrokenPipeError:
                raise
            except OSError as error:
                if self._terminal.shown:
                    self._detached = True  # the terminal is gone
                else:
                    self._lose_output(error)
                return
            del self._shown[:written]
            if not written or not self._shown:
                return
