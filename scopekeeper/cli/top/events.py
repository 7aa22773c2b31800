"""Where something has changed, for ``top``: the events that the keeper follows, too.

They come whether a keeper runs or not. Of another user's scopes there are none: a look finds what
changed.
"""

import asyncio
from collections.abc import Callable, Iterable

from scopekeeper.errors import ScopekeeperError
from scopekeeper.keeper import events
from scopekeeper.keeper.watch import Watch
from scopekeeper.kernel.unix_sockets import Sockets
from scopekeeper.scope.model import Scope
from scopekeeper.scope.placement import Caller


class Events:
    """Collects the directories of scopes that have changed; calls changed when there is one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Start; without what is needed (inotify), ``problem`` says why, and nothing comes."""
        self._dirty: set[str] = set()
        self._changed = changed
        self._watch: Watch | None = None
        self.problem = ""
        caller = Caller()
        self._uid = caller.uid
        try:
            watch = Watch(loop, caller, self._happened)
            watch.start()
        except (ScopekeeperError, OSError) as error:
            self.problem = str(error)
            return
        self._watch = watch

    @property
    def sockets(self) -> Sockets:
        """What is known of the sockets of servers."""
        return {} if self._watch is None else self._watch.sockets

    def follow(self, scopes: Iterable[Scope]) -> None:
        """Follow the commands and owners of these scopes, as just read."""
        if self._watch is not None:
            for scope in scopes:
                if scope.uid == self._uid:
                    self._watch.follow(scope)

    def take(self) -> set[str]:
        """Return the directories that have changed since the last call."""
        found, self._dirty = self._dirty, set()
        return found

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _happened(self, event: events.Event) -> None:
        if self._watch is None:
            return
        if isinstance(event, events.OwnerChanged):
            self._dirty |= self._watch.followers(event.owner)
        elif isinstance(event, events.Overflow):
            self._dirty |= set(self._watch.scopes)
        elif not isinstance(event, events.Blind):  # each look reads a share of all
            self._dirty.add(event.directory)
        if self._dirty:
            self._changed()
