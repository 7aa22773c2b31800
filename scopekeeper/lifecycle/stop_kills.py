"""Notes how many processes a stop kills, for another stop of the same target.

Two stops of one target end together, and only one of them has killed. The notes are files in the
folder in which stops keep their causes (``stop_witness``), and are trusted and removed like those.
"""

import contextlib
import os
from collections.abc import Mapping

from scopekeeper import regular_files, whole_file
from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel import proc
from scopekeeper.lifecycle import stop_witness
from scopekeeper.scope import record_parser, records

_KILLS = ".kills."
_NOTE_MAX = 1 << 20
"""Bytes of a note: some 10,000 members."""


def number_of(directory: str) -> int:
    """Return the number by which files here name a cgroup; 0 if it is gone."""
    try:
        return os.stat(directory).st_ino
    except OSError:
        return 0


def note(scope: int, target: int, killed: Mapping[str, int]) -> None:
    """Note how many processes a stop is about to kill, by leaf.

    scope is the number of the scope's cgroup, target the open directory of what is stopped in it.
    """
    with contextlib.suppress(OSError, ScopekeeperError):
        seen = os.fstat(target)
        fields = {leaf: str(number) for leaf, number in killed.items() if number}
        content = records.dumps({"BOOT": proc.boot_id(), **fields})
        mode = 0o600 if seen.st_uid == os.geteuid() else 0o644
        path = f"{stop_witness.make_folder()}/{scope}{_KILLS}{seen.st_ino}.{os.getpid()}"
        whole_file.replace(path, content, mode=mode)


class Kills:
    """The notes of kills that exist now; the folders are listed once."""

    def __init__(self) -> None:
        self._paths: dict[str, list[str]] = {}
        for folder in stop_witness.folders():
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    scope, mark, _ = name.partition(_KILLS)
                    if mark:
                        self._paths.setdefault(scope, []).append(f"{folder}/{name}")

    def of(self, scope: int) -> dict[str, int]:
        """Return how many processes of the members of a scope stops have killed, by leaf."""
        found: dict[str, int] = {}
        for path in self._paths.get(str(scope), ()):
            with contextlib.suppress(OSError, ScopekeeperError, records.RecordError):
                fields = records.loads(regular_files.read(path, _NOTE_MAX))
                if fields.pop("BOOT", "") == proc.boot_id():
                    numbers = record_parser.numbers(fields)
                    found |= {x: max(n, found.get(x, 0)) for x, n in numbers.items()}
        return found
