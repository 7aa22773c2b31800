"""What ``scopekeeper hook`` does for a client: the tables ``[NAME.hooks]``. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


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


def _has(names: Sequence[str], event: str) -> bool:
    return event.lower() in (name.lower() for name in names)
