"""One run that the keeper holds: its terminal, its log, and who wants to know of it."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from scopekeeper.errors import ScopekeeperError
from scopekeeper.exec import log, run
from scopekeeper.exec.log import Log
from scopekeeper.exec.run import Ended, Run
from scopekeeper.exec.text import Plain
from scopekeeper.keeper.exec.held import Held
from scopekeeper.keeper.exec.run_timeouts import RunTimeouts
from scopekeeper.keeper.processes import WatchedProcess
from scopekeeper.kernel.exit_status import Exit

_log = logging.getLogger("scopekeeper")

_TAIL = 2048
"""Bytes of the last output that are told with the end."""


@dataclass(slots=True, eq=False)
class Live:
    """A run that has not ended, and what is held of it; held is None where that was lost."""

    run: Run
    log: Log
    held: Held | None = None
    leader: WatchedProcess | None = None
    exit: Exit | None = None
    settling: asyncio.TimerHandle | None = None
    seen: bool = True
    """Whether this keeper has seen its member live, and so will tell of its end."""
    patience: int = 10
    """How often its end waits for that of its member to be told."""
    watchdog: RunTimeouts | None = None
    on_output: list[Callable[[], None]] = field(default_factory=list)
    """Called after each piece of output."""
    on_end: list[Callable[[], None]] = field(default_factory=list)
    """Called once it is known how it ended."""
    sizes: dict[object, tuple[int, int]] = field(default_factory=dict)
    """By who looks at it: columns and rows that he can show."""

    def resize(self, who: object, cols: int, rows: int) -> None:
        """Fit the window to the smallest of those who type; no size: he types no more."""
        self.sizes.pop(who, None)
        if cols > 0 and rows > 0:
            self.sizes[who] = (cols, rows)
        if not self.sizes:
            return  # it stays as it was for who comes back
        cols = min(size[0] for size in self.sizes.values())
        rows = min(size[1] for size in self.sizes.values())
        before = self.measured()
        if (cols, rows) != (before.cols, before.rows) and self.held is not None:
            self.held.resize(cols, rows)
            self.run = dataclasses.replace(self.run, cols=cols, rows=rows)

    def measured(self) -> Run:
        """Return the run with the size that its window has now: its command may have set it."""
        size = self.held.size if self.held is not None and self.held.is_open else None
        if size is not None and size != (self.run.cols, self.run.rows):
            self.run = dataclasses.replace(self.run, cols=size[0], rows=size[1])
        return self.run

    def wrote(self) -> None:
        """Tell who wants to know that there is more output."""
        if self.watchdog is not None:
            self.watchdog.heard()
        for call in tuple(self.on_output):
            call()

    def end(self, ended: Ended) -> None:
        """Take in the last of its output, write down how it ended, tell who waits for that."""
        if self.held is not None:
            self.held.drain()
        if self.run.ended is not None:
            return
        ended = with_last_words(self.run, ended)
        self.run = dataclasses.replace(self.run, ended=ended)
        save(self.run)
        for call in tuple(self.on_end):
            call()

    def close(self) -> None:
        """Hold nothing of it here any more; what the descriptor store has stays there."""
        if self.settling is not None:
            self.settling.cancel()
        if self.watchdog is not None:
            self.watchdog.close()
        if self.held is not None:
            self.held.let_go()
        self.log.close()


def with_last_words(known: Run, ended: Ended) -> Ended:
    """Return an end with the last that the run wrote, as plain text, where that can be read."""
    try:
        data = log.tail(known.folder, _TAIL)
        written = log.end(known.folder)
    except (OSError, ScopekeeperError):
        return ended
    plain = Plain()
    output = plain.feed(data) + plain.finish()
    return dataclasses.replace(ended, output=output, output_cut=written > len(data))


def save(known: Run) -> None:
    """Write a run down; a full disk must not keep the keeper from its work."""
    try:
        run.save(known)
    except ScopekeeperError as error:
        _log.error("%s", error)
