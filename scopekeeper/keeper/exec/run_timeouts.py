"""Ends runs that write nothing for too long, or take too long, after a warning."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scopekeeper.exec.run import Run
from scopekeeper.kernel.proc import boottime
from scopekeeper.quantities import show_duration
from scopekeeper.scope.reason import Cause, Reason

_BEFORE, _BEFORE_MOST = 0.1, 60_000_000
"""Part of a limit that is left at the warning, and microseconds at most."""
_AGAIN_SECONDS = 30.0
"""Until a run that is still there is ended again."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a run; times in microseconds of CLOCK_BOOTTIME."""

    reason: Reason
    since: int
    span: int

    @property
    def over(self) -> int:
        """When the run has to end."""
        return self.since + self.span

    @property
    def warning(self) -> int:
        """When to warn."""
        return self.over - min(round(self.span * _BEFORE), _BEFORE_MOST)

    @property
    def evidence(self) -> str:
        """The evidence of the end."""
        span = show_duration(self.span / 1e6)
        if self.reason is Reason.NO_OUTPUT:
            return f"nothing was written for {span}"
        return f"its timeout of {span} is over"

    @property
    def outlook(self) -> str:
        """The reason in the warning."""
        if self.reason is Reason.NO_OUTPUT:
            return f"for it may write nothing for {show_duration(self.span / 1e6)}"
        return f"for its timeout is {show_duration(self.span / 1e6)}"


def limits(run: Run, heard: int) -> Iterator[Limit]:
    """Yield the limits of a run; heard is when it wrote last, or began."""
    if run.no_output_timeout:
        yield Limit(Reason.NO_OUTPUT, heard, run.no_output_timeout)
    if run.timeout:
        yield Limit(Reason.TTL, run.born, run.timeout)


class RunTimeouts:
    """Watches the limits of one run; warn is called once for each limit and silence.

    end is called when a limit is over, and again while the run is still watched: a stop can fail.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        run: Run,
        warn: Callable[[str], None],
        end: Callable[[Cause], None],
    ) -> None:
        self._loop = loop
        self._run = run
        self._warn = warn
        self._end = end
        self._heard = boottime()
        self._warned: set[tuple[Reason, int]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def heard(self) -> None:
        """Note that the run has written output."""
        self._heard = boottime()

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        at = boottime()
        moments = []
        for limit in limits(self._run, self._heard):
            if at >= limit.over:
                self._timer = self._loop.call_later(_AGAIN_SECONDS, self._look)
                self._end(Cause(limit.reason, limit.evidence))
                return
            if at < limit.warning:
                moments.append(limit.warning)
                continue
            moments.append(limit.over)
            if (limit.reason, limit.since) not in self._warned:
                self._warned.add((limit.reason, limit.since))
                left = show_duration((limit.over - at) / 1e6)
                self._warn(f"will be ended in {left}, {limit.outlook}")
        if moments:
            self._timer = self._loop.call_later(max(min(moments) - at, 1000) / 1e6, self._look)
