"""Finds members that came and went between two looks, by the launch ledger."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from scopekeeper.history.end import End
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.lifecycle import unseen_ends

_log = logging.getLogger("scopekeeper")

_SECONDS = 1.0
"""How long after a launch to look: by then a member that stays has been seen."""
_PAUSE, _LONGEST_SECONDS = 20, 4.0
"""Wait this many times as long as the last look took, but not longer than that: of ten thousand
members the ledger has megabytes."""
_MOST_REPORTED = 10_000


class UnseenEnds:
    """Writes their ends to the history.

    watched returns the ids of members whose ends are reported elsewhere. found is called when ends
    were found.
    """

    def __init__(
        self,
        jobs: Jobs,
        mount: str,
        watched: Callable[[], Iterable[str]],
        found: Callable[[], None],
    ) -> None:
        self._jobs = jobs
        self._mount = mount
        self._watched = watched
        self._found = found
        self._reported: dict[str, None] = {}
        self._waits = False
        self._seconds = _SECONDS
        self._problem = ""

    def note(self, end: End) -> None:
        """Note that the end of a member was reported."""
        self._reported[end.member_id] = None
        while len(self._reported) > _MOST_REPORTED:
            del self._reported[next(iter(self._reported))]

    def is_reported(self, member_id: str) -> bool:
        """Return whether the end of a member was reported; it may not be written yet."""
        return member_id in self._reported

    def launched(self) -> None:
        """Look soon, once for everything launched until then."""
        if not self._waits:
            self._waits = True
            self._jobs.begin_later(self._seconds, self.look)

    async def look(self) -> None:
        """Look now."""
        self._waits = False
        began = time.monotonic()
        living = set(self._watched())
        others = self._reported.keys() | living
        ends, problem = await asyncio.to_thread(
            unseen_ends.collect, self._mount, others, living=living
        )
        self._seconds = min(max(_SECONDS, _PAUSE * (time.monotonic() - began)), _LONGEST_SECONDS)
        if problem and problem != self._problem:
            _log.error("%s", problem)
        self._problem = problem
        for end in ends:
            self.note(end)
        if ends:
            self._found()
