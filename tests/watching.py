"""Helpers of the tests of the keeper's event sources: a loop, and the events it received."""

import asyncio
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

from scopekeeper.keeper.events import (
    Change,
    Event,
    LeaderEnded,
    OwnerChanged,
    ScopeAppeared,
    ScopeChanged,
    ScopeGone,
    What,
)
from scopekeeper.keeper.watch import Watch
from scopekeeper.scope.model import Owner
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.snapshot import Reader
from tests.machine import PATIENCE, text_of


class Looped:
    """A loop that runs while a test waits."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> object:
        """Run the loop until the condition is true, and return its value."""
        return self.loop.run_until_complete(self._until(condition, seconds))

    async def _until(self, condition: Callable[[], object], seconds: float) -> object:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"did not come about in {seconds} s: {value!r}"
            await asyncio.sleep(0.003)
        return value

    def run(self, seconds: float) -> None:
        """Run the loop for a while."""
        self.loop.run_until_complete(asyncio.sleep(seconds))


class Watcher(Looped):
    """A Watch and the events that it reported (``told``)."""

    def __init__(self, notes: Path | None, mount: str = "") -> None:
        """Watch below mount only: other events of this machine do not concern the test."""
        super().__init__()
        self.told: list[Event] = []
        self.caller = Caller()
        self.caller.mount = mount or self.caller.mount
        self.watch = Watch(
            self.loop, self.caller, self.told.append, notes=None if notes is None else str(notes)
        )
        self.watch.start()

    def close(self) -> None:
        self.watch.close()
        self.loop.close()

    def follow(self, directory: str) -> None:
        """Read a scope as the keeper does, and follow it."""
        scope = Reader(self.caller.mount).scope(directory)
        assert scope is not None
        self.watch.follow(scope)

    def of(self, directory: str) -> list[Event]:
        """Return the events of one scope."""
        return [event for event in self.told if getattr(event, "directory", "") == directory]

    def appeared(self, directory: str) -> bool:
        return ScopeAppeared(directory) in self.told

    def gone(self, directory: str) -> bool:
        return ScopeGone(directory) in self.told

    def changes(self, directory: str) -> list[tuple[str, What]]:
        """Return the changes in a scope, in the order of the events."""
        return [
            (change.leaf, change.what)
            for event in self.of(directory)
            if isinstance(event, ScopeChanged)
            for change in event.changes
        ]

    def changed(self, directory: str, leaf: str, what: What) -> bool:
        return any(
            Change(leaf, what) in event.changes
            for event in self.of(directory)
            if isinstance(event, ScopeChanged)
        )

    def ended(self, directory: str) -> list[LeaderEnded]:
        return [event for event in self.of(directory) if isinstance(event, LeaderEnded)]

    def owners(self) -> list[Owner]:
        return [event.owner for event in self.told if isinstance(event, OwnerChanged)]


def watched_inodes() -> set[int]:
    """Return the inodes that this process watches by inotify, as the kernel lists them."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        for line in text_of(f"/proc/self/fdinfo/{fd}").splitlines():
            if line.startswith("inotify "):
                found.add(int(line.split("ino:")[1].split()[0], 16))
    return found


def descriptors() -> int:
    """Count the open descriptors of this process; no earlier test has one that is closed late."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
