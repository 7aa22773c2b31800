"""The history as the keeper's loop has it: read and written in one thread of its own.

A disk may take as long as it likes. The loop goes on meanwhile, and so does the history while
stops with a long grace have taken every other thread.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class HistoryThread:
    """Runs what reads or writes the history, one call after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, "history")

    async def do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what work returns, called in the thread."""
        return await self._loop.run_in_executor(self._thread, lambda: work(*args, **kwargs))
