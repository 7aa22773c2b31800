"""Where clients reach the keeper about runs: a socket that only their own uid may use.

Bounds: so many clients, so many of them that have not asked anything, and what each may take of
the keeper's memory and time (``conversation``).
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct

from scopekeeper.exec import protocol
from scopekeeper.exec.keeper_address import address, reachable
from scopekeeper.keeper.exec.conversation import Conversation
from scopekeeper.keeper.exec.runs import Runs

_log = logging.getLogger("scopekeeper")

_BACKLOG = 512
CLIENTS = 1024
"""How many are served at once; further ones are refused."""
SILENT = 32
"""How many of them may have asked nothing yet; of more the one that waits longest has to go."""
_AT_ONCE = 16
"""Clients that come in before those that did have their turn."""
_PAUSE = 1.0
"""Seconds until others are let in, where there was no descriptor for one."""


class RunServer:
    """Listens for clients of one uid, and serves them in the loop."""

    def __init__(self, runs: Runs) -> None:
        self._loop = asyncio.get_running_loop()
        self._runs = runs
        self._clients: dict[Conversation, None] = {}
        """In the order in which they came."""
        self._listening = False
        self._closed = False
        self._path = address()
        self._socket = _listen(self._path)
        self._hear(True)

    def close(self) -> None:
        """Listen no more, and hang up on all."""
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
                self._hear(False)  # it would be tried again at once
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
        """Hang up on the longest silent, where too many are."""
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
    """Listen at a path; there is one keeper for each uid, so that what stands there is stale."""
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
