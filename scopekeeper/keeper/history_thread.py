"""Reads and writes the history in a thread of its own.

So a slow disk does not block the loop, and stops with a long grace, which may occupy every other
thread, do not block the history.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class HistoryThread:
    """Runs calls that read or write the history, one after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, "history")

    async def do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call work in the thread and return its result."""
        return await self._loop.run_in_executor(self._thread, lambda: work(*args, **kwargs))
