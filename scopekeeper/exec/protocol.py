"""The protocol between clients and the keeper about runs, over a stream socket. Pure.

Neither side trusts the other: frames are bounded here, and ``scopekeeper.exec.messages`` checks
the type and the range of each value in a message.

A frame is one byte of kind, four bytes of length (little endian), and that many bytes:

- ``J``: JSON. A client begins with one request, ``{"do": WHAT, ...}``; the answer is
  ``{"ok": true, ...}`` or ``{"problem": TEXT, "hint": TEXT, "status": N}``.
- ``D``: bytes of a run: its output from the keeper, its input from a client.
- ``E``: the end of input from a client: closes a pipe, types a terminal's end-of-file character.

The requests:

- ``{"do": "hold", "run": {...}}`` with the terminal's master, or the pipes' ends (input, output),
  as SCM_RIGHTS of the first byte: the keeper holds them from the answer on. If the client hangs
  up before the next request, nothing was started and the keeper forgets the run.
- ``{"do": "started", "run": ID, "pid": N, "start": TICKS}`` with a pidfd: the process that is about
  to become its command.
- ``{"do": "failed", "run": ID, "status": N}``: its command did not start; the keeper forgets it.
- ``{"do": "attach", "run": ID, "from": POSITION, "cols": N, "rows": N, "read_only": BOOL}``:
  the answer is ``{"ok": true, "run": {...}, "from": POSITION, "lost": BOOL}``; lost is true if the
  keeper no longer holds its terminal. Then output flows from that position on (below zero: the
  end), and input may. The client sends ``{"resize": [COLS, ROWS]}``, the keeper
  ``{"missed": BYTES}`` (missing from the log) and at the end ``{"ended": {...}}``, each as ``J``.
  cols 0 is no window.
- ``{"do": "send", "run": ID, "seconds": S}``, then ``D`` and ``E`` frames, then a shutdown of that
  direction: two answers, the second is ``{"ok": true, "bytes": N}`` once the run took all.
- ``{"do": "wait", "run": ID}``: two answers, the first has "run" and "lost" as that to attach, the
  second is ``{"ended": {...}}``.
"""

import json
import struct
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

JSON, DATA, END = b"J", b"D", b"E"
MOST = 1 << 20
"""Bytes of the largest frame from the keeper; the receiver of a larger one hangs up."""
PIECE = 1 << 16
MOST_ASKED = PIECE + 4096
"""Bytes of the largest frame from a client: a run to hold, or a piece of input after the
beginning of detach keys that was held back."""
RESTART_HINT = "restart it: systemctl restart scopekeeper (or systemctl --user)"
"""What to do about a keeper of another version."""
_HEAD = struct.Struct("<cI")


class ProtocolError(Exception):
    """The other side sent something that is not of this protocol."""


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return _HEAD.pack(kind, len(payload)) + payload


def message(**values: object) -> bytes:
    """Return a ``J`` frame."""
    return frame(JSON, json.dumps(values).encode("ascii"))


class Frames:
    """Cuts a stream into frames of at most so many bytes."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take in bytes and yield complete frames, as kind and payload.

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


def parse(payload: bytes) -> "dict[str, Any]":
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
