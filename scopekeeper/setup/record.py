"""The record of what ``setup`` did: one file in the state folder, written before each step.

Every process of its user can write to it. So its types and sizes are checked when it is read, and
an undo removes only what scopekeeper has marked as its own.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scopekeeper import keeper_address, regular_files, state, unfinished_files, whole_file
from scopekeeper.errors import ConflictError, HistoryError, StateError
from scopekeeper.history.store import HistoryStore
from scopekeeper.setup.step import Facts
from scopekeeper.setup.writable import why_not

_FILE = "setup.json"
_VERSION = 1
_ENTRIES, _FACTS, _WORDS, _LONGEST = 1000, 20, 2000, 4096
"""The most entries, facts of an entry, texts of a fact, and characters of a text."""
_HINT = "move it away, and undo by hand: `scopekeeper unwrap`, `scopekeeper uninstall`"


@dataclass(frozen=True, slots=True)
class Entry:
    """One change: begun, and done unless setup was killed meanwhile."""

    step: str
    target: str
    facts: Facts


@dataclass(slots=True)
class Record:
    """All changes that are not taken back yet, in the order in which they were made."""

    folder: Path
    made: list[str] = field(default_factory=list)
    """The folders that were made for the record, the outermost first."""
    entries: list[Entry] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / _FILE

    def add(self, entry: Entry) -> None:
        """Record a change before it is made; raises StateError."""
        self.entries.append(entry)
        self.save()

    def drop(self, entry: Entry) -> None:
        """Forget a change that was not made, or is taken back; raises StateError."""
        self.entries.remove(entry)
        self.save()

    def save(self) -> None:
        """Write the file; remove it if it has no entry. Raises StateError."""
        document = {
            "version": _VERSION,
            "made": self.made,
            "changes": [
                {"step": each.step, "target": each.target, "facts": each.facts}
                for each in self.entries
            ],
        }
        try:
            if self.entries:
                text = json.dumps(document, indent=1) + "\n"
                whole_file.replace(self.path, text.encode(), durable=True)
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise StateError(f"cannot write {self.path}: {error.strerror}") from None


@contextlib.contextmanager
def changing() -> Iterator[Record]:
    """Yield the record, and keep a second setup of this user out meanwhile.

    Makes the state folder; removes it again if the record is empty at the end, and nothing else is
    in it. Raises StateError, and ConflictError if another setup runs.
    """
    folder = state.directory()
    made = [str(each) for each in reversed((folder, *folder.parents)) if not each.exists()]
    state.make()
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StateError(f"{folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unfinished_files.remove(descriptor, {os.geteuid()})
        record = load()
        record.made = record.made or made
        yield record
        if record.made and not record.entries:
            _remove_folders(record)
    except BlockingIOError:
        raise ConflictError("another setup runs", "wait until it has ended") from None
    finally:
        os.close(descriptor)


def _remove_folders(record: Record) -> None:
    """Remove the folders that were made for a record, unless they have a history by now.

    The trial of the checks starts a keeper, which makes an empty one.
    """
    with contextlib.suppress(HistoryError, OSError):
        if not keeper_address.runs():
            HistoryStore(record.folder).remove_if_empty()
    for each in reversed(record.made):
        with contextlib.suppress(OSError):
            os.rmdir(each)


def check() -> None:
    """Raise StateError if nothing can be recorded, as far as that is known beforehand."""
    if refused := why_not([str(load().path)]):
        hint = "set SCOPEKEEPER_STATE to a folder that only you can write to"
        raise StateError(f"what setup does cannot be recorded: {refused}", hint)


def load() -> Record:
    """Return the record, which may have no entry; raises StateError if it is invalid."""
    record = Record(state.directory())
    try:
        raw = regular_files.read(record.path)
    except FileNotFoundError:
        return record
    except OSError as error:
        raise StateError(f"{record.path}: {error.strerror}", _HINT) from None
    try:
        document = json.loads(raw)
        _check_version(document["version"])
        # only folders around the record may be removed with it
        around = {str(each) for each in (record.folder, *record.folder.parents)}
        record.made = [each for each in _texts(document["made"]) if each in around]
        record.entries = [_entry(each) for each in _listed(document["changes"], _ENTRIES)]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        why = str(error) if type(error) is ValueError else "it has been changed"
        raise StateError(f"{record.path} cannot be used: {why}", _HINT) from None
    return record


def _check_version(version: object) -> None:
    if version != _VERSION:
        raise ValueError("it is of another version of scopekeeper")


def _entry(value: object) -> Entry:
    if not isinstance(value, dict) or not isinstance(value["facts"], dict):
        raise TypeError
    facts = {_text(key): _texts(each) for key, each in value["facts"].items()}
    if len(facts) > _FACTS:
        raise ValueError("an entry is too long")
    return Entry(_text(value["step"]), _text(value["target"]), facts)


def _listed(value: object, most: int) -> list[object]:
    if not isinstance(value, list):
        raise TypeError
    if len(value) > most:
        raise ValueError("a list is too long")
    return value


def _texts(value: object) -> list[str]:
    return [_text(each) for each in _listed(value, _WORDS)]


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError
    if len(value) > _LONGEST:
        raise ValueError("a text is too long")
    return value
