"""What a client and the keeper say to each other about runs, over a stream socket. Pure.

Neither side trusts the other's bytes: frames are bounded here, and the values of messages are read
by ``scopekeeper.exec.messages``, which knows the type and the range of each.

A frame is one byte that says its kind, four bytes of length (little endian), and that many bytes:

- ``J``: JSON. A client begins with one request, ``{"do": WHAT, ...}``, and is answered with one
  ``{"ok": true, ...}`` or ``{"problem": TEXT, "hint": TEXT, "status": N}``.
- ``D``: bytes of a run: its output from the keeper, its input from a client.
- ``E``: no more of it: the input's end from a client (a pipe's, or the terminal's end character).

What can be asked:

- ``{"do": "hold", "run": {...}}`` with the terminal's master, or the pipes' ends (input, output),
  as SCM_RIGHTS of the first byte: the keeper holds them from the answer on.
  Where the client hangs up before the next step, nothing was started, and it is forgotten.
- ``{"do": "started", "run": ID, "pid": N, "start": TICKS}`` with a pidfd: which process is about
  to become its command.
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
"""Bytes of the largest frame from the keeper; a peer that sends a larger one is hung up on."""
PIECE = 1 << 16
MOST_ASKED = PIECE + 4096
"""Bytes of the largest frame from a client: a run to hold, or a piece of input, with what was held
back before it (the beginning of detach keys)."""
RESTART_HINT = "restart it: systemctl restart scopekeeper (or systemctl --user)"
"""What to do about a keeper of another version."""
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
    """Cuts a stream into frames; most is how many bytes one may have."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take in bytes and yield the frames that are whole, as kind and payload.

        Raises ProtocolError.
        """
        self._rest += data
        while len(self._rest) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._rest)
            if kind not in (JSON, DATA, END) or length > self._most:
                raise ProtocolError(f"a frame of kind {kind!r} with {length} bytes")
            if len(self._rest) < _HEAD.size + length:
                return
            payload = bytes(self._rest[_HEAD.size : _HEAD.size + length])
            del self._rest[: _HEAD.size + length]
            yield kind, payload


def parse(payload: bytes) -> dict[str, Any]:
    """Return the object of a ``J`` frame; raises ProtocolError."""
    try:
        values = json.loads(payload, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON: {error}") from None
    if not isinstance(values, dict):
        raise ProtocolError("no JSON object")
    return values


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")
