"""Writes the history: what began, so that it is missed if nobody sees it end, and what ended."""

import logging
from collections.abc import Callable, Collection

from scopekeeper.history import recording
from scopekeeper.history.end import End
from scopekeeper.keeper.history_thread import HistoryThread
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.kernel import cgroupfs

_log = logging.getLogger("scopekeeper")

_BEGAN_SECONDS, _ENDED_SECONDS, _AGAIN_SECONDS = 1.5, 0.2, 5.0
"""So that much is written at once, and what began shows its own words, or is over already."""
_MOST_UNWRITTEN = 10_000
"""Ends that are kept in memory while nothing can be written; the oldest go first."""


class HistoryWriter:
    """What is yet to be written. find returns a living member, as its end would be told."""

    def __init__(
        self, jobs: Jobs, find: Callable[[str, str], End | None], archive: HistoryThread
    ) -> None:
        self._jobs = jobs
        self._archive = archive
        self._find = find
        self._began: set[tuple[str, str]] = set()
        self._ended: list[End] = []
        self._problem = ""

    def began(self, directory: str, leaf: str) -> None:
        """Note that a member lives."""
        if not self._began:
            self._jobs.begin_later(_BEGAN_SECONDS, self._write_began)
        self._began.add((directory, leaf))

    def ended(self, end: End) -> None:
        """Note the end of a member."""
        if not self._ended:
            self._jobs.begin_later(_ENDED_SECONDS, self._write_ended)
        self._ended.append(end)

    async def catch_up(self, leaves: Collection[str]) -> None:
        """Tell of the ends that no keeper saw; leaves are those that are there."""
        missed, problem = await self._archive.do(recording.missed, leaves, _is_alive)
        if problem:
            _log.error("%s", problem)
        for end in missed:
            self.ended(end)

    async def finish(self) -> None:
        """Write what is left, for as far as that can be done."""
        await self._write_began()
        await self._write_ended()

    async def _write_began(self) -> None:
        found = [self._find(*each) for each in self._began]
        self._began.clear()
        # where it cannot be written, only an end that nobody sees will be missing
        await self._archive.do(recording.keep, [], [end for end in found if end is not None])

    async def _write_ended(self) -> None:
        writing, self._ended = self._ended, []
        news, problem = await self._archive.do(recording.keep, writing)
        if not problem:
            await self._archive.do(recording.tell, news)
        else:
            if problem != self._problem:
                _log.error("%s; tried again every %.0f s", problem, _AGAIN_SECONDS)
            if not self._ended:
                self._jobs.begin_later(_AGAIN_SECONDS, self._write_ended)
            self._ended = (writing + self._ended)[-_MOST_UNWRITTEN:]
        self._problem = problem


def _is_alive(end: End) -> bool:
    """Tell whether a member's process is in its leaf, wherever that is."""
    return f"/{end.leaf}" in cgroupfs.path_of(end.pid or 0)
