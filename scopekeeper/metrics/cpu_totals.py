"""CPU time by session, as a counter that never goes back while its session lives.

The kernel counts the CPU time of a scope for as long as that lives. So the sum over the living
scopes of a session goes back when one of them ends, and Prometheus would take that for a counter
that began anew. What was added up so far is kept in a file of the runtime directory, which goes
with the boot, as the kernel's counters do. Whoever publishes metrics adds what came since.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from scopekeeper import regular_files
from scopekeeper.keeper_address import address
from scopekeeper.kernel import proc
from scopekeeper.metrics.label_values import OTHER

_MOST = 16 << 20
_PATIENCE, _PAUSE = 1.0, 0.01
"""Seconds to wait for another process that has the file."""


@dataclass(frozen=True, slots=True)
class Totals:
    """CPU time in microseconds."""

    scopes: Mapping[str, int] = field(default_factory=dict)
    """Of each living scope when it was last seen, by cgroup and inode."""
    sessions: Mapping[str, int] = field(default_factory=dict)
    """Of each living session since boot, by its label value, as far as it was seen."""
    other: int = 0
    """What sessions without a series of their own have used."""

    def of(self, value: str) -> int:
        """Return the CPU time of a series."""
        return self.other if value == OTHER else self.sessions.get(value, 0)


def advance(before: Totals, seen: Mapping[str, tuple[str, int]], shown: Collection[str]) -> Totals:
    """Return the totals now.

    seen has the label value and CPU time of each living scope; shown are the label values that have
    a series of their own.
    """
    sessions = {value: before.sessions.get(value, 0) for value, _ in seen.values()}
    other = before.other
    for key, (value, usec) in seen.items():
        grown = max(usec - before.scopes.get(key, 0), 0)
        sessions[value] += grown
        if value not in shown:
            other += grown
    return Totals({key: usec for key, (_, usec) in seen.items()}, sessions, other)


def update(seen: Mapping[str, tuple[str, int]], shown: Collection[str], *, keep: bool) -> Totals:
    """Return the totals now, and with keep, keep them for whoever asks next.

    If the file cannot be read or written, they begin with what the living scopes have used.
    """
    with _locked(for_writing=keep) as file:
        now = advance(_read(file), seen, shown)
        if keep and file >= 0:
            _write(file, now)
    return now


@contextlib.contextmanager
def _locked(*, for_writing: bool) -> Iterator[int]:
    """Give the file's descriptor once nobody else has the file; -1 if it cannot be had."""
    flags = os.O_RDWR | os.O_CREAT if for_writing else os.O_RDONLY
    try:
        path = os.path.join(os.path.dirname(address()), "metrics-cpu")
        if for_writing:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        file = regular_files.open_regular(path, flags, most=_MOST)
    except Exception:  # noqa: BLE001  then it is as if there was none
        yield -1
        return
    try:
        yield file if _lock(file) else -1
    finally:
        os.close(file)


def _lock(file: int) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)
        else:
            return True


def _read(file: int) -> Totals:
    """Return what was kept; nothing if it is of another boot, or was cut short."""
    if file < 0:
        return Totals()
    try:
        with open(file, "rb", closefd=False) as content:
            document = json.loads(content.read(_MOST))
        if document["boot"] != proc.boot_id():
            return Totals()
        return Totals(
            _numbers(document["scopes"]), _numbers(document["sessions"]), _number(document["other"])
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Totals()


def _numbers(found: Any) -> dict[str, int]:  # noqa: ANN401  of a file
    return {str(key): _number(value) for key, value in found.items()}


def _number(found: Any) -> int:  # noqa: ANN401  of a file
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 63:
        raise ValueError(f"{str(found)[:40]!r} is no number")
    return found


def _write(file: int, totals: Totals) -> None:
    content = json.dumps({"boot": proc.boot_id(), **asdict(totals)}).encode()
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, content, 0)
