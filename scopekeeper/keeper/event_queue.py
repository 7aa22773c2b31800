"""Queues events, coalescing the changes of one scope."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from scopekeeper.keeper.events import Change, Event, OwnerChanged, ScopeChanged, ScopeGone, What
from scopekeeper.kernel import cgroupfs
from scopekeeper.scope.model import Owner

_LASTING = (What.OOM_KILL, What.OOMD_KILL)
"""Changes that matter also once the scope is gone."""


@dataclass(slots=True)
class _Changing:
    """A ScopeChanged that is still growing."""

    directory: str
    touched: set[str] = field(default_factory=set)
    """Leaves whose cgroup.events changed; read when the event is delivered."""
    changes: set[Change] = field(default_factory=set)


class EventQueue:
    """Calls report with each event, in order, in the loop's next round."""

    def __init__(self, loop: asyncio.AbstractEventLoop, report: Callable[[Event], None]) -> None:
        self._loop = loop
        self._report = report
        self._queue: deque[Event | _Changing] = deque()
        self._changing: dict[str, _Changing] = {}
        self._changed_owners: set[Owner] = set()
        self._flushing = False

    def put(self, event: Event) -> None:
        """Queue an event."""
        self._append(event)

    def touch(self, directory: str, leaf: str) -> None:
        """Queue whether a leaf of a scope is populated; leaf '' is the scope itself."""
        self._growing(directory).touched.add(leaf)

    def change(self, directory: str, leaf: str, what: What) -> None:
        """Queue a change in a scope."""
        self._growing(directory).changes.add(Change(leaf, what))

    def gone(self, directory: str) -> None:
        """Queue that a scope is gone; of its earlier changes, keep only OOM kills."""
        changing = self._changing.pop(directory, None)
        if changing is not None:
            changing.touched.clear()
            changing.changes = {c for c in changing.changes if c.what in _LASTING}
        self._append(ScopeGone(directory))

    def owner_changed(self, owner: Owner) -> None:
        """Queue, once, that an owner may have ended."""
        if owner not in self._changed_owners:
            self._changed_owners.add(owner)
            self._append(OwnerChanged(owner))

    def clear(self) -> None:
        """Drop everything queued."""
        self._queue.clear()
        self._changing.clear()

    def _growing(self, directory: str) -> _Changing:
        changing = self._changing.get(directory)
        if changing is None:
            changing = self._changing[directory] = _Changing(directory)
            self._append(changing)
        return changing

    def _append(self, event: Event | _Changing) -> None:
        self._queue.append(event)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Deliver what is queued; what is queued meanwhile waits for the loop's next round."""
        self._flushing = False
        queue, self._queue = self._queue, deque()
        self._changing.clear()
        self._changed_owners.clear()
        try:
            while queue:
                event = queue.popleft()
                if isinstance(event, _Changing):
                    settled = _settled(event)
                    if settled.changes:
                        self._report(settled)
                else:
                    self._report(event)
        finally:
            if queue:  # the callback raised: deliver the others nevertheless
                self._queue.extendleft(reversed(queue))
                self._flush_soon()


def _settled(changing: _Changing) -> ScopeChanged:
    """Read what was touched, as late as possible: it may have come and gone meanwhile."""
    changes = set(changing.changes)
    for leaf in changing.touched:
        directory = f"{changing.directory}/{leaf}" if leaf else changing.directory
        populated = cgroupfs.is_populated(directory)
        changes.add(Change(leaf, What.POPULATED if populated else What.EMPTIED))
    return ScopeChanged(changing.directory, frozenset(changes))
