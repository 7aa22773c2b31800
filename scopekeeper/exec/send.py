"""Sends input to a run without attaching to it."""

import contextlib
import socket
import time
from collections.abc import Iterable

from scopekeeper.errors import UnavailableError
from scopekeeper.exec import messages, protocol
from scopekeeper.exec.client import RESTART, understood
from scopekeeper.exec.reach import reach_again
from scopekeeper.exec.run import Run, refuse_input


def send(run: Run, pieces: Iterable[bytes], *, seconds: float, end: bool = False) -> int:
    """Send bytes to a run, then the end of its input if wanted; return how many it took.

    Raises ScopekeeperError if it does not take all of them within that time, and SilentError if the
    keeper does nothing.
    """
    refuse_input(run)  # do not wait for a keeper, which exits when it holds no run
    with reach_again(RESTART, start=True) as connection:
        connection.ask(do="send", run=run.id, seconds=seconds)
        answers_by = time.monotonic() + seconds
        silence = connection.silence(is_due=lambda: time.monotonic() > answers_by)
        # if the keeper hangs up early, its answer says why
        with contextlib.suppress(UnavailableError):
            for piece in pieces:
                connection.send(silence, protocol.DATA, piece)
            if end:
                connection.send(silence, protocol.END)
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_WR)
        with understood():
            return messages.taken(connection.answer(silence))
