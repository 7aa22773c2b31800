"""Writes the history: which members began, so that an unseen end is noticed, and which ended."""

import logging
from collections.abc import Callable, Collection

from scopekeeper.history import recording
from scopekeeper.history.end import End
from scopekeeper.keeper.history_thread import HistoryThread
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.kernel import cgroupfs
from scopekeeper.lifecycle import observe, unseen_ends
from scopekeeper.scope.reason import Reason

_log = logging.getLogger("scopekeeper")

_BEGAN_SECONDS, _ENDED_SECONDS, _AGAIN_SECONDS = 1.5, 0.2, 5.0
"""Delays that batch writes; by then a launch has become its command, or has ended."""
_MOST_UNWRITTEN = 10_000
"""How many ends to keep in memory while writing fails; the oldest are dropped first."""


class HistoryWriter:
    """Holds what is yet to be written. find returns the End that a living member would have now."""

    def __init__(
        self, jobs: Jobs, find: Callable[[str, str], End | None], history: HistoryThread
    ) -> None:
        self._jobs = jobs
        self._history = history
        self._find = find
        self._began: set[tuple[str, str]] = set()
        self._ended: list[End] = []
        self._problem = ""

    def began(self, directory: str, leaf: str) -> None:
        """Schedule writing that a member lives."""
        if not self._began:
            self._jobs.begin_later(_BEGAN_SECONDS, self._write_began)
        self._began.add((directory, leaf))

    def ended(self, end: End) -> None:
        """Schedule writing the end of a member."""
        if not self._ended:
            self._jobs.begin_later(_ENDED_SECONDS, self._write_ended)
        self._ended.append(end)

    @property
    def unwritten(self) -> int:
        """How many ends wait to be written."""
        return len(self._ended)

    async def catch_up(self, leaves: Collection[str]) -> None:
        """Write ends that no keeper saw; leaves are the leaves that exist."""
        missed, problem = await self._history.do(recording.missed, leaves, _is_alive)
        if problem:
            _log.error("%s", problem)
        causes = await self._history.do(unseen_ends.causes_of, missed)
        for end, cause in zip(missed, causes, strict=True):
            is_open = end.reason is Reason.UNKNOWN and cause is not None
            self.ended(observe.unwatched(end, cause, end.ended) if is_open else end)

    async def finish(self) -> None:
        """Write what is left, as far as possible."""
        await self._write_began()
        await self._write_ended()

    async def _write_began(self) -> None:
        found = [self._find(*each) for each in self._began]
        self._began.clear()
        # if this fails, only an end that nobody sees will be missing
        await self._history.do(recording.keep, [], [end for end in found if end is not None])

    async def _write_ended(self) -> None:
        writing, self._ended = self._ended, []
        writing = await self._history.do(unseen_ends.labelled, writing)
        news, problem = await self._history.do(recording.keep, writing)
        if not problem:
            await self._history.do(recording.tell, news)
        else:
            if problem != self._problem:
                _log.error("%s; retrying every %.0f s", problem, _AGAIN_SECONDS)
            if not self._ended:
                self._jobs.begin_later(_AGAIN_SECONDS, self._write_ended)
            self._ended = (writing + self._ended)[-_MOST_UNWRITTEN:]
        self._problem = problem


def _is_alive(end: End) -> bool:
    """Return True if a member's process is in its leaf, wherever that is."""
    return f"/{end.leaf}" in cgroupfs.path_of(end.pid or 0)
