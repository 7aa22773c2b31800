"""A connection to the bus that writes any bytes: no library refuses to send what is wrong.

The layout is that of the D-Bus specification, "Message Protocol".
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from tests.machine import ROOT

SOCKET = "/run/dbus/system_bus_socket" if ROOT else f"/run/user/{os.getuid()}/bus"
CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE = range(1, 9)
_KINDS = {PATH: "o", REPLY_SERIAL: "u", SIGNATURE: "g", 9: "u"}
_BUS = "org.freedesktop.DBus"


@dataclass
class Raw:
    """One message, whole or not; its lengths are right unless they are given."""

    kind: int = CALL
    flags: int = 0
    version: int = 1
    order: str = "<"
    body: bytes = b""
    body_length: int | None = None
    fields_length: int | None = None
    fields: dict[int, str | int] = field(default_factory=dict)
    more: bytes = b""
    """Header fields as bytes, after the others: each is aligned to 8."""

    def data(self, serial: int) -> bytes:
        """Return its bytes."""
        fields = bytearray()
        for code, value in self.fields.items():
            fields += b"\0" * (-len(fields) % 8)
            kind = _KINDS.get(code, "s")
            fields += struct.pack("BB2s", code, 1, kind.encode() + b"\0")
            if isinstance(value, int):
                fields += struct.pack(self.order + "I", value)
            elif kind == "g":
                fields += struct.pack("B", len(value)) + value.encode() + b"\0"
            else:
                raw = value.encode("utf-8", "surrogateescape")
                fields += struct.pack(self.order + "I", len(raw)) + raw + b"\0"
        if self.more:
            fields += b"\0" * (-len(fields) % 8) + self.more
        body = len(self.body) if self.body_length is None else self.body_length
        length = len(fields) if self.fields_length is None else self.fields_length
        order = b"l" if self.order == "<" else b"B"
        head = order + bytes((self.kind, self.flags, self.version))
        head += struct.pack(self.order + "III", body, serial, length)
        return bytes(head + fields + b"\0" * (-len(fields) % 8) + self.body)


class RawBus:
    """Speaks to the bus of this test's manager; closed by it, it connects again at the next use."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._serial = 0
        self.refused = 0
        """How often the bus hung up, or waited for more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def send(self, message: Raw | bytes) -> None:
        """Send a message, or bytes."""
        self._serial += 1
        data = message if isinstance(message, bytes) else message.data(self._serial)
        with self._hung_up():
            self._connected().sendall(data)

    def settled(self, seconds: float = 20) -> bool:
        """Return whether the bus has passed on all that was sent; it answers in order.

        It answers nothing to what it takes for the rest of a message.
        """
        asked = Raw(fields={PATH: "/", DESTINATION: _BUS, INTERFACE: f"{_BUS}.Peer",
                            MEMBER: "Ping"})  # fmt: skip
        with self._hung_up():
            connection = self._connected()
            self._serial += 1
            connection.settimeout(seconds)
            connection.sendall(asked.data(self._serial))
            while True:
                kind, reply_to = self._read(connection)
                if kind in (RETURN, ERROR) and reply_to == self._serial:
                    return True
        return False

    @contextlib.contextmanager
    def _hung_up(self) -> Iterator[None]:
        try:
            yield
        except (ConnectionError, EOFError, TimeoutError):
            self.refused += 1
            self.close()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = made = socket.socket(socket.AF_UNIX)
            made.settimeout(30)
            made.connect(SOCKET)
            uid = str(os.getuid()).encode().hex().encode()
            made.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\n")
            answer = b""
            while not answer.endswith(b"\r\n"):
                answer += made.recv(1)
            assert answer.startswith(b"OK "), answer
            made.sendall(b"BEGIN\r\n")
            self._serial += 1
            hello = {PATH: "/org/freedesktop/DBus", DESTINATION: _BUS, INTERFACE: _BUS,
                     MEMBER: "Hello"}  # fmt: skip
            made.sendall(Raw(fields=hello).data(self._serial))
            while self._read(made) != (RETURN, self._serial):
                pass
        return self._socket

    def _read(self, connection: socket.socket) -> tuple[int, int]:
        """Read one message of the bus; return its kind and the serial that it answers, or 0."""
        head = self._exactly(connection, 16)
        body, _, fields = struct.unpack_from("<III", head, 4)
        rest = self._exactly(connection, fields + -fields % 8 + body)
        at, reply_to = 0, 0
        while at < fields:
            at += -at % 8
            code, size = rest[at], rest[at + 1]
            kind = rest[at + 2 : at + 2 + size]
            at += 3 + size
            if kind == b"g":
                at += rest[at] + 2
                continue
            at += -at % 4
            (number,) = struct.unpack_from("<I", rest, at)
            at += 4 if kind == b"u" else number + 5
            if code == REPLY_SERIAL:
                reply_to = number
        return head[1], reply_to

    @staticmethod
    def _exactly(connection: socket.socket, many: int) -> bytes:
        data = b""
        while len(data) < many:
            more = connection.recv(many - len(data))
            if not more:
                raise EOFError
            data += more
        return data
