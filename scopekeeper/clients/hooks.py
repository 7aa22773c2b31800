"""What ``scopekeeper hook`` does for each client: the tables ``[NAME.hooks]`` of clients.toml.

Not for launches: it parses the files each time, and a hook's own process has the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.clients.compile import FOLDER, texts_of
from scopekeeper.clients.format import Row
from scopekeeper.clients.parse import HOOKS, ClientsError, merge, parse
from scopekeeper.clients.variables import FILE
from scopekeeper.policy.files import find_file


@dataclass(frozen=True, slots=True)
class Hooks:
    """The events of a client, and what each end of a session is about."""

    start: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    """Words of the command line of a process that has several sessions at a time."""
    id: tuple[str, ...] = ("session_id",)
    """Keys of the event that hold the id of the session."""
    pid: str = ""
    """The variable with the client's pid; '' if there is none."""
    keeps: tuple[str, ...] = ()
    """Reasons of an end after which the client goes on with all that it has started."""
    drops: tuple[str, ...] = ()
    """Reasons of an end after which it may go on without what the session has started."""

    def is_start(self, event: str) -> bool:
        """Return whether an event is the start of a session."""
        return _has(self.start, event)

    def is_shared(self, arguments: Sequence[str]) -> bool:
        """Return whether the process with these arguments has several sessions at a time."""
        return not set(self.shared).isdisjoint(arguments)

    def is_end(self, event: str) -> bool:
        """Return whether an event is the end of a session."""
        return _has(self.end, event)


def read(warnings: list[str]) -> tuple[tuple[Row, ...], dict[str, Hooks]]:
    """Return the table of clients and their hooks, with the files of this user over them.

    An invalid or foreign file becomes a warning.
    """
    built_in = texts_of([str(FOLDER / FILE)])
    found = find_file(FILE, "the table of clients")
    warnings += found.ignored
    try:
        return _parsed([*built_in, *texts_of(found.sources)])
    except ClientsError as error:
        warnings.append(f"{error}; only the built-in table of clients applies")
        return _parsed(built_in)


def _parsed(texts: list[tuple[str, str]]) -> tuple[tuple[Row, ...], dict[str, Hooks]]:
    merged = merge(texts)
    known = {name: Hooks(**fields[HOOKS]) for name, fields in merged.items() if HOOKS in fields}
    return parse(texts), known


def _has(names: Sequence[str], event: str) -> bool:
    return event.lower() in (name.lower() for name in names)
