"""Sends input to a run without attaching to it."""

import contextlib
import socket
from collections.abc import Iterable

from scopekeeper.errors import UnavailableError
from scopekeeper.exec import messages, protocol
from scopekeeper.exec.client import RESTART, understood
from scopekeeper.exec.reach import reach_again
from scopekeeper.exec.run import Run, refuse_input


def send(run: Run, pieces: Iterable[bytes], *, seconds: float, end: bool = False) -> int:
    """Send bytes to a run, then the end of its input if wanted; return how many it took.

    Raises ScopekeeperError if it does not take all of them within that time.
    """
    refuse_input(run)  # do not wait for a keeper, which exits when it holds no run
    with reach_again(RESTART, start=True) as connection:
        connection.ask(do="send", run=run.id, seconds=seconds)
        # if the keeper hangs up early, its answer says why
        with contextlib.suppress(UnavailableError):
            for piece in pieces:
                connection.send(protocol.DATA, piece)
            if end:
                connection.send(protocol.END)
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_WR)
        with understood():
            return messages.taken(connection.answer())
