"""Where clients reach the keeper about runs: a socket that only their own uid may use."""

import asyncio
import contextlib
import logging
import os
import socket
import struct

from scopekeeper.keeper.pty.conversation import Conversation
from scopekeeper.keeper.pty.runs import Runs
from scopekeeper.pty.client import address, reachable

_log = logging.getLogger("scopekeeper")

_BACKLOG = 512


class Server:
    """Listens for clients of one uid, and serves them in the loop."""

    def __init__(self, runs: Runs) -> None:
        self._loop = asyncio.get_running_loop()
        self._runs = runs
        self._clients: set[Conversation] = set()
        self._path = address()
        self._socket = _listen(self._path)
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Listen no more, and hang up on all."""
        self._loop.remove_reader(self._socket.fileno())
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self._socket.close()
        for client in tuple(self._clients):
            client.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                _log.error("a client was not let in: %s", error.strerror)
                return
            if _uid_of(connection) in (0, os.geteuid()):
                self._clients.add(Conversation(self._loop, connection, self._runs, self._clients))
            else:
                connection.close()


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
