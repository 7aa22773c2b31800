"""Runs work that takes longer than one iteration of the loop."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("scopekeeper")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call work in a new thread and return its result.

    For long work: it does not wait for other work, as it would in asyncio's few threads, and this
    process exits without waiting for it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(settle: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if future.done() else settle())

    def run() -> None:
        try:
            result = work(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  raised where the result is awaited
            failure = error
            finish(lambda: future.set_exception(failure))
        else:
            finish(lambda: future.set_result(result))

    threading.Thread(target=run, daemon=True).start()
    return await future


class Jobs:
    """Runs coroutines beside the loop's other work.

    after is called when one has ended. A failure is logged and affects nothing else.
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
        """Run a job after a delay, unless closed by then."""
        return self._loop.call_later(seconds, self._begin_if_open, job)

    async def finish(self, seconds: float) -> None:
        """Wait for all running jobs, at most this many seconds; start no more."""
        self.closed = True
        until = self._loop.time() + seconds
        while self._tasks and (left := until - self._loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)

    def _begin_if_open(self, job: Callable[..., Coroutine[None, None, None]]) -> None:
        if not self.closed:
            self.begin(job)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("internal error", exc_info=task.exception())
        if not self.closed:
            self._after()
