"""What ended, when and why: one row for each ended member, in the state directory.

Nothing else rests on it: where it cannot be written, that is said, and all goes on.
"""

from collections.abc import Sequence

from scopekeeper.errors import ScopekeeperError
from scopekeeper.history.end import End
from scopekeeper.history.reason import Cause, Reason, Stopper

__all__ = ["Cause", "End", "Reason", "Stopper", "keep", "record", "tell"]


def record(ends: Sequence[End]) -> str:
    """Write ends to the history and to the journal; return what went wrong, '' if nothing did.

    Raises nothing, and may be called from any thread. An end that is
    known already is told again at no harm: see ``end.merged``.
    """
    news, problem = keep(ends)
    tell(news)
    return problem


def keep(ends: Sequence[End]) -> tuple[list[End], str]:
    """Do the first half of record: write the history; return what is news, and what went wrong."""
    if not ends:
        return [], ""
    from scopekeeper import state
    from scopekeeper.history.store import Store

    try:
        return Store(state.make()).write(ends)
    except Exception as error:  # noqa: BLE001  what it tells of has to go on
        return list(ends), f"the history was not written: {_words(error)}"


def tell(ends: Sequence[End]) -> None:
    """Do the other half: tell the journal, which takes it more time than it takes us."""
    if ends:
        from scopekeeper.history import journal

        journal.send(ends)


def _words(error: Exception) -> str:
    if isinstance(error, ScopekeeperError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return f"internal error: {type(error).__name__}: {error}"
