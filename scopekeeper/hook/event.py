"""Reads what a client writes to its hook: one JSON object, from a client that may do it wrong."""

import json
import os
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.clients.identity import is_id

SIZE_MAX = 1 << 20
"""Bytes that are kept; more is no event."""
PATIENCE = 2.0
"""Seconds until the end of the input."""
_PIECE = 1 << 16
_REASON_MAX = 64


@dataclass(frozen=True, slots=True)
class Event:
    """The fields of an event; '' if they are missing or invalid."""

    session_id: str = ""
    reason: str = ""


def read(fd: int, seconds: float = PATIENCE) -> bytes:
    """Read to the end, or for some seconds, and close; return nothing if it is too much.

    The rest is read too, so that the client gets no broken pipe.
    """
    until = time.monotonic() + seconds
    pieces: list[bytes] = []
    size = 0
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while (left := until - time.monotonic()) > 0 and poll.poll(left * 1000):
        try:
            piece = os.read(fd, _PIECE)
        except OSError:
            break  # it was opened for writing, or is a folder
        if not piece:
            break
        size += len(piece)
        if size <= SIZE_MAX:
            pieces.append(piece)
    os.close(fd)  # a client that still writes must not wait until this process ends
    return b"".join(pieces) if size <= SIZE_MAX else b""


def parse(text: bytes, id_keys: Sequence[str]) -> Event:
    """Return the event in a text; id_keys are those of the session's id, the first one counts."""
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):  # no UTF-8, no JSON, a number that int() refuses
        return Event()
    if not isinstance(found, dict):
        return Event()
    values = [found[key] for key in id_keys if found.get(key)]
    named = values[0] if values and isinstance(values[0], str) else ""
    reason = found.get("reason")
    if not isinstance(reason, str) or len(reason) > _REASON_MAX:
        reason = ""
    return Event(named if is_id(named.encode("utf-8", "surrogatepass")) else "", reason)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON; raises ValueError if it has a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a duplicate key")
    return found


def _refuse(constant: str) -> None:
    """Refuse NaN and the like, which are not JSON."""
    raise ValueError(constant)
