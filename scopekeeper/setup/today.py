"""What ended since midnight, from the history."""

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field

from scopekeeper import state
from scopekeeper.history.store import HistoryStore
from scopekeeper.scope.reason import Reason

_CLEANED = (
    Reason.SUPERSEDED, Reason.OWNER_GONE, Reason.TTL, Reason.IDLE, Reason.NO_OUTPUT,
    Reason.LEADER_EXITED, Reason.ABANDONED, Reason.ESCAPED,
)  # fmt: skip
"""Ends that nobody asked for: rules, or the end of an owner."""


@dataclass(slots=True)
class Today:
    """The members that ended today."""

    ended: int = 0
    cleaned: int = 0
    """Members that were cleaned up."""
    processes: int = 0
    """Processes of these."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Of these, by number."""


def read() -> Today:
    """Return what ended since midnight of local time; raises HistoryError, StateError."""
    midnight = dt.datetime.combine(dt.date.today(), dt.time())  # noqa: DTZ011  local time
    today = Today()
    for end in HistoryStore(state.directory()).read(since=int(midnight.timestamp() * 1e6)):
        today.ended += 1
        if end.reason in _CLEANED:
            today.cleaned += 1
            today.processes += end.processes or 0
            today.reasons[end.reason.value] += 1
    return today
