"""What a client and the keeper say to each other about runs, over a stream socket. Pure.

A frame is one byte that says its kind, four bytes of length (little endian), and that many bytes:

- ``J``: JSON. A client begins with one request, ``{"do": WHAT, ...}``, and is answered with one
  ``{"ok": true, ...}`` or ``{"problem": TEXT, "hint": TEXT, "status": N}``.
- ``D``: bytes of a run: its output from the keeper, its input from a client.
- ``E``: no more of it: the input's end from a client (a pipe's, or the terminal's end character).

What can be asked:

- ``{"do": "hold", "run": {...}}`` with the terminal's master, or the pipes' ends (input, output),
  as SCM_RIGHTS of the first byte: the keeper holds them from the answer on.
- ``{"do": "failed", "run": ID, "status": N}``: its command did not start; it is forgotten.
- ``{"do": "attach", "run": ID, "from": POSITION, "cols": N, "rows": N, "read_only": BOOL}``:
  answered with ``{"ok": true, "run": {...}, "from": POSITION, "lost": BOOL}``, lost where the
  keeper holds its terminal no more. Then output flows from that position on (below zero: the
  end), and input may. ``{"resize": [COLS, ROWS]}`` from the client; ``{"missed": BYTES}``
  (the log no longer had them) and at the end ``{"ended": {...}}`` from the keeper, each as ``J``.
  cols 0: no window.
- ``{"do": "send", "run": ID, "seconds": S}``, then ``D`` and ``E`` frames, then a shutdown of that
  direction: answered twice, the second time with ``{"ok": true, "bytes": N}`` when all was taken.
- ``{"do": "wait", "run": ID}``: answered twice, the second time with ``{"ended": {...}}``.
"""

import json
import struct
from collections.abc import Iterator
from typing import Any

JSON, DATA, END = b"J", b"D", b"E"
MOST = 1 << 20
"""Bytes of the largest frame; who sends a larger one is hung up on."""
PIECE = 1 << 16
_HEAD = struct.Struct("<cI")


class ProtocolError(Exception):
    """The other side does not speak this."""


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return _HEAD.pack(kind, len(payload)) + payload


def message(**values: object) -> bytes:
    """Return a ``J`` frame."""
    return frame(JSON, json.dumps(values).encode("ascii"))


class Frames:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take in bytes and yield the frames that are whole, as kind and payload.

        Raises ProtocolError.
        """
        self._rest += data
        while len(self._rest) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._rest)
            if kind not in (JSON, DATA, END) or length > MOST:
                raise ProtocolError(f"a frame of kind {kind!r} with {length} bytes")
            if len(self._rest) < _HEAD.size + length:
                return
            payload = bytes(self._rest[_HEAD.size : _HEAD.size + length])
            del self._rest[: _HEAD.size + length]
            yield kind, payload


def parse(payload: bytes) -> dict[str, Any]:
    """Return the object of a ``J`` frame; raises ProtocolError."""
    try:
        values = json.loads(payload)
    except ValueError as error:
        raise ProtocolError(f"no JSON: {error}") from None
    if not isinstance(values, dict):
        raise ProtocolError("no JSON object")
    return values
