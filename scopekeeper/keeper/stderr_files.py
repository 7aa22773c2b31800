"""Keeps the files of ``run --stderr=file`` small while members write to them.

A write wakes the keeper once. Then it looks away for a moment: a server that floods its file wakes
it ten times a second, however much it writes. While nobody writes, nothing wakes it.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine

from scopekeeper.errors import StateError
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.kernel.inotify import IN_MODIFY, IN_ONESHOT, Event
from scopekeeper.stderr import bounds, files

_log = logging.getLogger("scopekeeper")

_PAUSE = 0.1
"""Seconds between looks while something is written: what is written meanwhile is on the disk."""
_TIMES, _LONGEST = 20, 1.0
"""With very many files, wait this many times as long as the last look took."""
_LAUNCH_SECONDS = 2.0
"""How long after a start to look for the folder, which the first launch that needs it makes."""
_TIDY_SECONDS = 120.0
"""How long after an end to look which files are too old, or too many."""


class StderrFiles:
    """Shortens the files; watch_folder is that of ``Watch``."""

    def __init__(
        self, jobs: Jobs, watch_folder: Callable[[str, int, Callable[[Event], None]], bool]
    ) -> None:
        self._jobs = jobs
        self._watch_folder = watch_folder
        self._pause = _PAUSE
        self._watched = ("", 0)
        """The folder and its inode."""
        self._scheduled: set[str] = set()

    def started(self) -> None:
        """Find the folder soon, once for all members that start until then."""
        self._later("find", _LAUNCH_SECONDS, self.find)

    def ended(self) -> None:
        """Remove old files, if there are any, some time after an end: once for all until then."""
        if self._watched[1]:
            self._later("tidy", _TIDY_SECONDS, self._tidy)

    async def find(self) -> None:
        """Watch the folder, if it is there and not watched yet, and look at what is in it."""
        self._scheduled.discard("find")
        try:
            folder = files.folder(files.FILE)
            seen = folder, os.stat(folder).st_ino
        except (StateError, OSError):
            return
        if seen != self._watched:
            self._watched = seen
            await self._shorten()
            await self._tidy()

    def _written(self, _: Event) -> None:
        self._later("shorten", self._pause, self._shorten)

    def _later(
        self, what: str, seconds: float, job: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        if what not in self._scheduled:
            self._scheduled.add(what)
            self._jobs.begin_later(seconds, job)

    async def _shorten(self) -> None:
        self._scheduled.discard("shorten")
        self._watch_folder(self._watched[0], IN_MODIFY | IN_ONESHOT, self._written)
        began = time.monotonic()
        was_flooded = await _done(bounds.shorten_all)
        took = 0.0 if was_flooded else time.monotonic() - began
        self._pause = min(max(_PAUSE, _TIMES * took), _LONGEST)

    async def _tidy(self) -> None:
        self._scheduled.discard("tidy")
        await _done(bounds.tidy)


async def _done(work: Callable[[], bool | None]) -> bool:
    try:
        return bool(await asyncio.to_thread(work))
    except (StateError, OSError) as error:
        _log.warning("the files of stderr are not kept small: %s", error)
        return False
