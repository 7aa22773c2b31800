"""One run that the keeper holds: its terminal, its log, its listeners."""

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
from scopekeeper.history import recording
from scopekeeper.keeper.exec.held import Held
from scopekeeper.keeper.exec.run_timeouts import RunTimeouts
from scopekeeper.keeper.processes import WatchedProcess
from scopekeeper.kernel.exit_status import Exit
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import unseen_ends

_log = logging.getLogger("scopekeeper")

_TAIL = 2048
"""Bytes of output to report with the end."""


@dataclass(slots=True, eq=False)
class Live:
    """A run that has not ended; held is None if its descriptors were lost."""

    run: Run
    log: Log
    held: Held | None = None
    leader: WatchedProcess | None = None
    exit: Exit | None = None
    settling: asyncio.TimerHandle | None = None
    seen: bool = True
    """Whether this keeper has seen its member alive, and so will report its end."""
    patience: int = 10
    """How often its end still waits for that of its member."""
    watchdog: RunTimeouts | None = None
    on_output: list[Callable[[], None]] = field(default_factory=list)
    """Called after each piece of output."""
    on_end: list[Callable[[], None]] = field(default_factory=list)
    """Called once it is known how it ended."""
    sizes: dict[object, tuple[int, int]] = field(default_factory=dict)
    """Columns and rows of the window of each attached client."""

    def resize(self, who: object, cols: int, rows: int) -> None:
        """Fit the window to the smallest of the clients; no size removes this client."""
        self.sizes.pop(who, None)
        if cols > 0 and rows > 0:
            self.sizes[who] = (cols, rows)
        if not self.sizes:
            return  # keep the size for the next client
        cols = min(size[0] for size in self.sizes.values())
        rows = min(size[1] for size in self.sizes.values())
        before = self.measured()
        if (cols, rows) != (before.cols, before.rows) and self.held is not None:
            self.held.resize(cols, rows)
            self.run = dataclasses.replace(self.run, cols=cols, rows=rows)

    def measured(self) -> Run:
        """Return the run with the current size of its window: its command may have set it."""
        size = self.held.size if self.held is not None and self.held.is_open else None
        if size is not None and size != (self.run.cols, self.run.rows):
            self.run = dataclasses.replace(self.run, cols=size[0], rows=size[1])
        return self.run

    def wrote(self) -> None:
        """Notify the listeners of more output."""
        if self.watchdog is not None:
            self.watchdog.heard()
        for call in tuple(self.on_output):
            call()

    def end(self, ended: Ended) -> None:
        """Record the rest of its output and how it ended, and notify the listeners."""
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
        """Close the descriptors; those in the descriptor store stay."""
        if self.settling is not None:
            self.settling.cancel()
        if self.watchdog is not None:
            self.watchdog.close()
        if self.held is not None:
            self.held.let_go()
        self.log.close()


def with_last_words(known: Run, ended: Ended) -> Ended:
    """Return an end with the end of the output, as plain text, if it can be read."""
    try:
        data = log.tail(known.folder, _TAIL)
        written = log.end(known.folder)
    except (OSError, ScopekeeperError):
        return ended
    plain = Plain()
    output = plain.feed(data) + plain.finish()
    return dataclasses.replace(ended, output=output, output_cut=written > len(data))


def save(known: Run) -> None:
    """Write the record of a run; a full disk is only logged."""
    try:
        run.save(known)
    except ScopekeeperError as error:
        _log.error("%s", error)


def as_launched(known: Run) -> Run:
    """Return a run whose scope was not seen with its leaf, as its launch wrote it down.

    The history may have the end of that member already, as one that nobody saw.
    """
    launch = unseen_ends.launch_of(known.id, known.pid)
    if launch is None:  # whoever wrote that end has dropped the line of the launch
        end = recording.end_of_run(known.id, known.pid)
        if end is None:
            return known
        return dataclasses.replace(known, leaf=end.leaf, joined=end.started)
    directory, _, leaf = f"{mount_point()}{launch[0]}".rpartition("/")
    return dataclasses.replace(known, directory=directory, leaf=leaf, joined=launch[1])
