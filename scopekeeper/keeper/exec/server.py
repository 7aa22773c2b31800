"""Accepts clients that ask about runs, on a socket that only their own uid may use.

The number of clients is bounded, that of those without a request more so, and ``conversation``
bounds the memory and time that each takes.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct

from scopekeeper.exec import protocol
from scopekeeper.keeper.exec.conversation import Conversation
from scopekeeper.keeper.exec.runs import Runs
from scopekeeper.keeper_address import address, reachable

_log = logging.getLogger("scopekeeper")

_BACKLOG = 512
CLIENTS = 1024
"""Clients to serve at once; more are refused."""
SILENT = 32
"""Clients without a request at once; of more, the oldest is dropped."""
_AT_ONCE = 16
"""Clients to accept before the event loop continues."""
_PAUSE = 1.0
"""Seconds until accepting again after there was no descriptor for a client."""


class RunServer:
    """Listens for clients of one uid, and serves them in the event loop."""

    def __init__(self, runs: Runs) -> None:
        self._loop = asyncio.get_running_loop()
        self._runs = runs
        self._clients: dict[Conversation, None] = {}
        """In order of their arrival."""
        self._listening = False
        self._closed = False
        self._path = address()
        self._socket = _listen(self._path)
        self._hear(True)

    def close(self) -> None:
        """Stop listening, and hang up on all clients."""
        self._hear(False)
        self._closed = True
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self._socket.close()
        for client in tuple(self._clients):
            client.close()

    def _hear(self, wanted: bool) -> None:
        if wanted and not self._listening and not self._closed:
            self._loop.add_reader(self._socket.fileno(), self._accept)
        elif self._listening and not wanted:
            self._loop.remove_reader(self._socket.fileno())
        self._listening = wanted and not self._closed

    def _accept(self) -> None:
        self._let_in()
        self._end_silence()

    def _let_in(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                _log.error("a client was not let in: %s", error.strerror)
                self._hear(False)  # else it is tried again at once
                self._loop.call_later(_PAUSE, self._hear, True)
                return
            if _uid_of(connection) not in (0, os.geteuid()):
                connection.close()
            elif len(self._clients) >= CLIENTS:
                _refuse(connection)
            else:
                conversation = Conversation(self._loop, connection, self._runs, self._left)
                self._clients[conversation] = None

    def _end_silence(self) -> None:
        """Hang up on the oldest clients without a request, if there are too many."""
        silent = [client for client in self._clients if client.is_silent]
        for client in silent[:-SILENT]:
            client.close()

    def _left(self, client: Conversation) -> None:
        self._clients.pop(client, None)
        self._hear(True)


def _refuse(connection: socket.socket) -> None:
    words = {"problem": f"the keeper serves {CLIENTS} clients already", "hint": "end some"}
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(protocol.message(**words, status=1))


def _listen(path: str) -> socket.socket:
    """Listen at a path; there is one keeper for each uid, so an existing socket is stale."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with reachable(path) as name:
            listening.bind(name)
    finally:
        os.umask(before)
    listening.setblocking(False)
    listening.listen(_BACKLOG)
    return listening


def _uid_of(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("iII", credentials)[1])
