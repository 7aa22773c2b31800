"""Work that takes longer than a turn of the loop."""

import asyncio
import logging
from collections.abc import Callable, Coroutine

_log = logging.getLogger("scopekeeper")


class Jobs:
    """Runs coroutines beside the loop's other work; what has begun is brought to its end.

    after is called when one is over; one that fails is logged, and stops nothing else.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, after: Callable[[], None]) -> None:
        self._loop = loop
        self._after = after
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = False

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def begin(self, job: Callable[..., Coroutine[None, None, None]], *arguments: object) -> None:
        """Run a job now."""
        task = self._loop.create_task(job(*arguments))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def begin_later(
        self, seconds: float, job: Callable[..., Coroutine[None, None, None]]
    ) -> asyncio.TimerHandle:
        """Run a job after so many seconds, if nothing has been closed by then."""
        return self._loop.call_later(seconds, self._begin_if_open, job)

    async def finish(self) -> None:
        """Wait for all that has begun."""
        self.closed = True
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin_if_open(self, job: Callable[..., Coroutine[None, None, None]]) -> None:
        if not self.closed:
            self.begin(job)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("internal error", exc_info=task.exception())
        if not self.closed:
            self._after()
