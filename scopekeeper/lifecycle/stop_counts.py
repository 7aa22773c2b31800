"""Notes how many processes a stop found and killed, for whoever else reports the same end.

Two stops of one target end together: only the first found all of its processes, and only one of
them has killed. A keeper that sees the end counts nothing itself. The notes are files in the folder
in which stops keep their causes (``stop_witness``), and are trusted and removed like those.
"""

import contextlib
import os
import time
from collections.abc import Mapping

from scopekeeper import regular_files
from scopekeeper.data import dataclass, field
from scopekeeper.errors import ScopekeeperError
from scopekeeper.lifecycle import stop_witness
from scopekeeper.scope import record_parser, records

LIVED, KILLED = ".lived.", ".kills."
"""What a note counts: the processes before the first signal, and those that had to be killed."""
_TICK = 50_000_000
"""Nanoseconds; longer than a tick of the clock that stamps files."""
_NOTE_MAX = 1 << 20
"""Bytes of a note: some 10,000 members."""


def number_of(directory: str) -> int:
    """Return the number by which files here name a cgroup; 0 if it is gone."""
    try:
        return os.stat(directory).st_ino
    except OSError:
        return 0


def note(what: str, scope: int, target: int, counts: Mapping[str, int]) -> None:
    """Note how many processes a stop has found, or is about to kill, by leaf.

    what is LIVED or KILLED, scope the number of the scope's cgroup, target the open directory of
    what is stopped in it.
    """
    with contextlib.suppress(OSError, ScopekeeperError):
        seen = os.fstat(target)
        fields = {leaf: str(number) for leaf, number in counts.items() if leaf and number}
        name = f"{scope}{what}{seen.st_ino}.{os.getpid()}"
        stop_witness.write(name, fields, seen.st_uid)


def _changed(folder: str) -> int:
    """Return when a file was last added to a folder or removed; 0 if there is no folder."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What the stops of a scope have counted, by leaf."""

    lived: Mapping[str, int] = field(default_factory=dict)
    killed: Mapping[str, int] = field(default_factory=dict)


class Notes:
    """The notes that existed at the last look."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, str], list[str]] = {}
        self._listed: tuple[int, ...] | None = None
        self.look()

    def look(self) -> None:
        """List the folders again if they have changed."""
        folders = list(stop_witness.folders())
        changed = tuple(map(_changed, folders))
        if changed == self._listed:
            return
        # a change in the same tick of the clock would not show
        is_settled = max(changed, default=0) < time.time_ns() - _TICK
        self._listed = changed if is_settled else None
        self._paths = {}
        for folder in folders:
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    for what in (LIVED, KILLED):
                        scope, mark, _ = name.partition(what)
                        if mark:
                            self._paths.setdefault((scope, what), []).append(f"{folder}/{name}")

    def of(self, scope: int) -> Counts:
        """Return what stops have counted in a scope: of each leaf the largest number."""
        return Counts(self._read(scope, LIVED), self._read(scope, KILLED))

    def _read(self, scope: int, what: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for path in self._paths.get((str(scope), what), ()):
            with contextlib.suppress(OSError, ScopekeeperError, records.RecordError):
                fields = records.loads(regular_files.read(path, _NOTE_MAX))
                if fields.pop("BOOT", "") == stop_witness.this_boot():
                    numbers = record_parser.numbers(fields)
                    found |= {x: max(n, found.get(x, 0)) for x, n in numbers.items()}
        return found
