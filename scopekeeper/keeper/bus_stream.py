"""What lies between the library of the bus and its socket, in both directions."""

import socket
from typing import Any

_HEAD = 16
"""Bytes of a message before its header fields (D-Bus specification, Message Format)."""
_LITTLE = ord("l")
_KINDS = (1, 2, 3, 4)
"""A call, a return, an error, a signal; a receiver has to ignore all others."""
MOST = 1 << 20
"""Bytes of a message after these 16; what this keeper is asked has a few kilobytes."""


class Sieve:
    """The stream of a bus, as the library reads from it, without messages that are too large.

    The bus passes on up to a gigabyte. The library makes an object of each value, so that a message
    of 64 MiB would stop the keeper for 20 s and leave it seven times as large (measured with
    dbus-next 0.2.3). It also leaves the bus for a message of a kind that it does not know. Such
    messages are skipped, and get no answer.
    """

    def __init__(self, stream: Any, most: int = MOST) -> None:  # noqa: ANN401  of the library
        self._stream, self._most = stream, most
        """The stream is one that does not block: io.BufferedRWPair, or like it."""
        self._head = bytearray()
        """What was read of the head of the next message; it is whole once _left counts the rest."""
        self._left = 0
        self._skip = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  of any type
        return getattr(self._stream, name)

    def read(self, many: int) -> bytes | None:
        """Return up to so many bytes of one message; None if there are none yet, b"" at the end."""
        if not self._left:
            head = self._begin()
            if not head:
                return head
        data = bytes(self._head[:many])
        del self._head[:many]
        if len(data) < many and (missing := min(many, self._left) - len(data)):
            more: bytes | None = self._stream.read(missing)
            if not data:
                self._left -= len(more or b"")
                return more
            data += more or b""
        self._left -= len(data)
        return data

    def _begin(self) -> bytes | None:
        """Read and return the head of the next message; or what read returns for no data."""
        while True:
            while self._skip:
                data: bytes | None = self._stream.read(min(self._skip, 1 << 16))
                if not data:
                    return data
                self._skip -= len(data)
            while len(self._head) < _HEAD:
                data = self._stream.read(_HEAD - len(self._head))
                if not data:
                    return data
                self._head += data
            rest = _rest(self._head)
            if rest <= self._most and self._head[1] in _KINDS:
                self._left = _HEAD + rest
                return bytes(self._head)
            self._head.clear()
            self._skip = rest


def _rest(head: bytearray) -> int:
    """Return how many bytes follow the head of a message: header fields, padding and body."""
    order = "little" if head[0] == _LITTLE else "big"
    body, fields = (int.from_bytes(head[at : at + 4], order) for at in (4, 12))  # type: ignore[arg-type]
    return fields + -fields % 8 + body


class Patient:
    """The socket of a bus, as the library writes to it: it waits where nothing was written.

    The library takes EAGAIN, which comes when the bus is slower than our answers, for an end.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  of any type
        return getattr(self._socket, name)

    def send(self, data: memoryview) -> int:
        """Write what there is room for."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
