"""Passes notices on: to whoever is connected, and to the commands that rules name for them."""

import asyncio
from collections.abc import Callable, Iterable

from scopekeeper.keeper import notices
from scopekeeper.keeper.event_commands import EventCommands
from scopekeeper.keeper.faults import Faults
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.keeper.memory_watch import MemoryWatch
from scopekeeper.keeper.scratch_watch import ScratchWatch
from scopekeeper.policy.rules import Policy
from scopekeeper.scope.model import Scope


class Publisher:
    """Called with each notice. report is called with it too; policy and scopes are those of now."""

    def __init__(
        self,
        jobs: Jobs,
        faults: Faults,
        report: notices.Tell,
        policy: Callable[[], Policy],
        scopes: Callable[[], Iterable[Scope]],
    ) -> None:
        self._faults = faults
        self._commands = EventCommands(jobs, lambda: policy().commands)
        self._memory = MemoryWatch(
            asyncio.get_running_loop(), scopes, lambda: policy().memory_shares, self
        )
        self._scratch = ScratchWatch(jobs, scopes, lambda: policy().bounds_scratch, self)
        self._receivers = (report, self._commands.take_in)

    def __call__(self, notice: notices.Notice) -> None:
        """Pass a notice on; one receiver that fails keeps it from no other."""
        for take_in in self._receivers:
            with self._faults.contained(type(notice).__name__):
                take_in(notice)

    def __bool__(self) -> bool:
        """Return whether a command runs or waits."""
        return bool(self._commands)

    def start(self) -> None:
        """Clean up after a keeper that was killed."""
        self._commands.start()

    def changed(self) -> None:
        """Look for what rules ask for: they or the scopes have changed."""
        self._memory.changed()
        self._scratch.changed()

    def close(self) -> None:
        """Start no more commands."""
        self._memory.close()
        self._scratch.close()
        self._commands.close()
