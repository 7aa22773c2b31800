"""The part of the D-Bus protocol that a request for a scope needs.

A client library takes longer to import than the whole launch (pystemd 40 ms, libsystemd through
ctypes 6 ms). Source: the D-Bus specification, version 1 of the protocol. Messages from here are
little-endian, which every receiver reads. The first byte of a message that comes in names its
byte order: systemd and the bus daemons write in the machine's own.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = (
    1, 2, 3, 4, 5, 6, 8,
)  # fmt: skip
_ALIGNMENT = {"y": 1, "g": 1, "v": 1, "u": 4, "b": 4, "s": 4, "o": 4, "a": 4, "t": 8, "(": 8}


class Writer:
    """Marshals values one after the other, each with the alignment of its type."""

    __slots__ = ("data",)

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, to: int) -> None:
        """Pad with zeros to a multiple of ``to`` bytes."""
        self.data += b"\0" * (-len(self.data) % to)

    def number(self, value: int, size: int) -> None:
        """Write a u (4 bytes) or a t (8 bytes)."""
        self.align(size)
        self.data += value.to_bytes(size, "little")

    def string(self, value: str) -> None:
        """Write an s or an o."""
        raw = value.encode("utf-8", "replace")
        self.number(len(raw), 4)
        self.data += raw + b"\0"

    def signature(self, value: str) -> None:
        """Write a g."""
        self.data += bytes((len(value),)) + value.encode("ascii") + b"\0"

    def value(self, signature: str, value: "Any") -> None:
        """Write one value of a type that unit properties have."""
        if signature == "v":
            inner, content = value
            self.signature(inner)
            self.value(inner, content)
        elif signature in ("s", "o"):
            self.string(value)
        elif signature == "b":
            self.number(bool(value), 4)
        elif signature in ("u", "t"):
            self.number(value, 4 if signature == "u" else 8)
        elif signature[0] == "a":
            self.array(signature[1:], value)
        elif signature[0] == "(":
            self.align(8)
            for item, content in zip(members(signature[1:-1]), value, strict=True):
                self.value(item, content)
        else:
            raise ValueError(signature)

    def array(self, item: str, values: "list[Any]") -> None:
        """Write an array; its length excludes itself and the padding before the first item."""
        self.number(0, 4)
        length_at = len(self.data) - 4
        self.align(_ALIGNMENT[item[0]])
        start = len(self.data)
        for value in values:
            self.value(item, value)
        self.data[length_at : length_at + 4] = (len(self.data) - start).to_bytes(4, "little")


def members(signature: str) -> list[str]:
    """Split a signature into its complete types: ``sa(sv)u`` is ``s``, ``a(sv)``, ``u``."""
    found, at = [], 0
    while at < len(signature):
        end = at
        while signature[end] == "a":
            end += 1
        if signature[end] == "(":
            depth = 1
            while depth:
                end += 1
                depth += {"(": 1, ")": -1}.get(signature[end], 0)
        found.append(signature[at : end + 1])
        at = end + 1
    return found


def call(
    serial: int,
    destination: str,
    path: str,
    interface: str,
    member: str,
    signature: str = "",
    values: "tuple[Any, ...]" = (),
) -> bytes:
    """Return one whole method call."""
    body = Writer()
    for item, value in zip(members(signature), values, strict=True):
        body.value(item, value)
    message = Writer()
    message.data += bytes((ord("l"), METHOD_CALL, 0, 1))
    message.number(len(body.data), 4)
    message.number(serial, 4)
    fields: list[Any] = [
        (_PATH, ("o", path)),
        (_INTERFACE, ("s", interface)),
        (_MEMBER, ("s", member)),
        (_DESTINATION, ("s", destination)),
    ]
    if signature:
        fields.append((_SIGNATURE, ("g", signature)))
    _write_fields(message, fields)
    message.align(8)
    return bytes(message.data + body.data)


def _write_fields(message: Writer, fields: "list[Any]") -> None:
    message.number(0, 4)
    length_at = len(message.data) - 4
    start = len(message.data)  # 16: already aligned for the first struct
    for code, (kind, content) in fields:
        message.align(8)
        message.data.append(code)
        message.signature(kind)
        if kind == "g":
            message.signature(content)
        else:
            message.string(content)
    message.data[length_at : length_at + 4] = (len(message.data) - start).to_bytes(4, "little")


class Message:
    """A received message: its body and the header fields that matter here."""

    __slots__ = ("body", "error", "kind", "member", "order", "reply_to", "signature")

    def __init__(self, raw: bytes) -> None:
        """Read one whole message; raises ValueError if it is not one."""
        self.order = _order_of(raw)
        self.kind = raw[1]
        self.error = self.member = self.signature = ""
        self.reply_to = 0
        end = 16 + self._number(raw, 12)
        at = 16
        while at < end:
            at += -at % 8
            code, kind = raw[at], chr(raw[at + 2])
            at += 4
            if kind == "u":
                value: object = self._number(raw, at)
                at += 4
            elif kind == "g":
                value = raw[at + 1 : at + 1 + raw[at]].decode()
                at += raw[at] + 2
            else:
                value, at = self._string(raw, at)
            if code == _ERROR_NAME:
                self.error = str(value)
            elif code == _MEMBER:
                self.member = str(value)
            elif code == _SIGNATURE:
                self.signature = str(value)
            elif code == _REPLY_SERIAL and isinstance(value, int):
                self.reply_to = value
        self.body = raw[end + -end % 8 :]

    def strings(self) -> list[str]:
        """Return the strings and object paths of a body of numbers and strings."""
        found, at = [], 0
        for kind in self.signature:
            if kind in ("s", "o"):
                text, at = self._string(self.body, at + -at % 4)
                found.append(text)
            elif kind == "u":
                at += -at % 4 + 4
            elif kind == "v":  # a string or a boolean inside
                inner = self.body[at + 1]
                at += self.body[at] + 2
                at += -at % 4
                if inner == ord("b"):
                    text, at = "yes" if self._number(self.body, at) else "no", at + 4
                else:
                    text, at = self._string(self.body, at)
                found.append(text)
            else:
                break
        return found

    def _number(self, raw: bytes, at: int) -> int:
        return int.from_bytes(raw[at : at + 4], self.order)

    def _string(self, raw: bytes, at: int) -> tuple[str, int]:
        length = self._number(raw, at)
        at += 4
        return raw[at : at + length].decode("utf-8", "replace"), at + length + 1


def _order_of(head: bytes) -> "Literal['little', 'big']":
    if head[:1] == b"l":
        return "little"
    if head[:1] == b"B":
        return "big"
    raise ValueError("systemd's answer is not a D-Bus message")


def length_of(head: bytes) -> int:
    """Return the length of the message that begins with these 16 bytes; raises ValueError."""
    order = _order_of(head)
    fields = int.from_bytes(head[12:16], order)
    return 16 + fields + -fields % 8 + int.from_bytes(head[4:8], order)
