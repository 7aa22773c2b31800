"""Events on their way to whom they are told: what comes together about one scope is told once."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from scopekeeper.keeper.events import Change, Event, OwnerChanged, ScopeChanged, ScopeGone, What
from scopekeeper.kernel import cgroupfs
from scopekeeper.scope.model import Owner


@dataclass(slots=True)
class _Changing:
    """A ScopeChanged that is still growing."""

    directory: str
    touched: set[str] = field(default_factory=set)
    """Leaves whose cgroup.events changed; read when told."""
    changes: set[Change] = field(default_factory=set)


class EventQueue:
    """Calls tell with each event in the loop's next round, in their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: Callable[[Event], None]) -> None:
        self._loop = loop
        self._tell = tell
        self._queue: deque[Event | _Changing] = deque()
        self._changing: dict[str, _Changing] = {}
        self._changed_owners: set[Owner] = set()
        self._flushing = False

    def say(self, event: Event) -> None:
        """Tell an event."""
        self._put(event)

    def touch(self, directory: str, leaf: str) -> None:
        """Tell whether a leaf of a scope is populated now, or with '' the scope itself."""
        self._growing(directory).touched.add(leaf)

    def change(self, directory: str, leaf: str, what: What) -> None:
        """Tell of a change in a scope."""
        self._growing(directory).changes.add(Change(leaf, what))

    def gone(self, directory: str) -> None:
        """Tell that a scope is gone; of what changed before only kills are still of interest."""
        changing = self._changing.pop(directory, None)
        if changing is not None:
            changing.touched.clear()
            changing.changes = {c for c in changing.changes if c.what is What.OOM_KILL}
        self._put(ScopeGone(directory))

    def owner_changed(self, owner: Owner) -> None:
        """Tell once that an owner may have ended."""
        if owner not in self._changed_owners:
            self._changed_owners.add(owner)
            self._put(OwnerChanged(owner))

    def clear(self) -> None:
        """Tell nothing of what has come."""
        self._queue.clear()
        self._changing.clear()

    def _growing(self, directory: str) -> _Changing:
        changing = self._changing.get(directory)
        if changing is None:
            changing = self._changing[directory] = _Changing(directory)
            self._put(changing)
        return changing

    def _put(self, event: Event | _Changing) -> None:
        self._queue.append(event)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Tell what has come together; what comes by telling is told in the loop's next round."""
        self._flushing = False
        queue, self._queue = self._queue, deque()
        self._changing.clear()
        self._changed_owners.clear()
        try:
            while queue:
                event = queue.popleft()
                if isinstance(event, _Changing):
                    told = _settled(event)
                    if told.changes:
                        self._tell(told)
                else:
                    self._tell(event)
        finally:
            if queue:  # whoever is told failed: the others have a right to be told too
                self._queue.extendleft(reversed(queue))
                self._flush_soon()


def _settled(changing: _Changing) -> ScopeChanged:
    """Look at what was touched, as late as possible: it may have come and gone meanwhile."""
    changes = set(changing.changes)
    for leaf in changing.touched:
        directory = f"{changing.directory}/{leaf}" if leaf else changing.directory
        populated = cgroupfs.is_populated(directory)
        changes.add(Change(leaf, What.POPULATED if populated else What.EMPTIED))
    return ScopeChanged(changing.directory, frozenset(changes))
