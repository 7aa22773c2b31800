"""Clocks that can be handed in: all of scopekeeper, and asyncio, read the time from ``time``.

So a day passes as soon as nothing is left to do: ``Selector`` moves the clocks on to the next timer
of its loop. What the kernel stamps (files, starts of processes) keeps the real time.
"""

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LATE = 0.012
"""Seconds: the kernel reports a change of a cgroup up to 10 ms late (cgroup_file_notify)."""
_AT_WORK = 0.02


class Clock:
    """The real clocks, so many nanoseconds ahead; they never go back."""

    def __init__(self, ahead: int = 0) -> None:
        self.ahead = ahead

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.ahead += round(max(seconds, 0.0) * 1e9)

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Hand it to everything in this process."""
        real = {name: getattr(time, name) for name in
                ("time", "time_ns", "monotonic", "monotonic_ns", "clock_gettime",
                 "clock_gettime_ns")}  # fmt: skip

        def moved(name: str) -> Callable[..., float]:
            read, unit = real[name], (1 if name.endswith("_ns") else 1e9)
            return lambda *which: read(*which) + self.ahead / unit if unit != 1 else (
                read(*which) + self.ahead
            )  # fmt: skip

        for name in real:
            setattr(time, name, moved(name))
        try:
            yield
        finally:
            for name, read in real.items():
                setattr(time, name, read)


class Selector(selectors.DefaultSelector):
    """Waits for no time to pass: where a loop would sleep, the clock moves on."""

    def __init__(self, clock: Clock, is_at_work: Callable[[], bool]) -> None:
        super().__init__()
        self._clock, self._is_at_work = clock, is_at_work
        self.wakes = 0
        """How often the loop has slept, and was woken by an event or a timer."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        if self._is_at_work():
            return super().select(_AT_WORK)
        self.wakes += 1
        found = super().select(_LATE if timeout is None else min(timeout, _LATE))
        if not found and timeout is not None:
            self._clock.forward(timeout)
        return found


class Loop(asyncio.SelectorEventLoop):
    """A loop of such a clock; it stands still while a thread is at work."""

    def __init__(self, clock: Clock) -> None:
        self._working = 0
        self.selector = Selector(clock, self._is_at_work)
        super().__init__(self.selector)

    def _is_at_work(self) -> bool:
        """Return whether the executor has work, or a thread of ``jobs.in_thread`` runs."""
        threads = (each.name for each in threading.enumerate())
        return self._working > 0 or any(name.endswith("(run)") for name in threads)

    def run_in_executor(self, executor, func, *args):  # type: ignore[no-untyped-def]
        self._working += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: object) -> None:
        self._working -= 1

    @property
    def timers(self) -> int:
        """How many timers are set."""
        return sum(not each.cancelled() for each in self._scheduled)  # type: ignore[attr-defined]
