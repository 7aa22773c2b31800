"""How often ``top`` looks: as asked for, or so that looks take a small share of one CPU."""

import time

DELAY = 2.0
"""Seconds between looks."""
_SHARE = 0.025
"""Of one CPU that looks take at most, unless the caller sets the delay: they come less often. Keys
and events take some more: 3% together."""
_SHARE_OF_EVENTS = 0.1
"""The same for looks at what an event came of."""
_SECOND_LOOK = 0.5
"""Seconds to the second look, which the first CPU times need."""
_TOGETHER = 0.1
"""Seconds in which events are collected."""


class Pace:
    """When the next look is due; delay is what the caller has set."""

    def __init__(self, delay: float | None) -> None:
        self._delay = delay
        self._is_first = True
        self._rested = self._due = time.monotonic()
        """When events may be looked at again, and everything."""

    def after_look(self, took: float) -> float:
        """Return the seconds to the next look at everything; took is in seconds of CPU."""
        pause = _SECOND_LOOK if self._is_first else self._delay or max(DELAY, took / _SHARE)
        self._is_first = False
        self._due = time.monotonic() + pause
        return pause

    def until_events(self) -> float:
        """Return the seconds until what has changed may be looked at."""
        return max(_TOGETHER, self._rested - time.monotonic())

    def after_events(self, took: float) -> float:
        """Note a look at what has changed, and return the seconds to the next at everything."""
        self._rested = time.monotonic() + took / _SHARE_OF_EVENTS
        return max(self._due - time.monotonic(), 0.0)
