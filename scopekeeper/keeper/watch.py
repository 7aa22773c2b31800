"""Reports what happens to the scopes of one uid as ``events``, from all of the kernel's sources.

It watches the directory of each scope (leaves come and go, records change), its ``cgroup.events``
and ``memory.events``, and ``cgroup.events`` of each leaf. The memory events of a scope include
those of its leaves: a leaf has files of its own only if its member has a limit of its own, and they
may appear long after the leaf. Everything is watched before it is reported, and reported before it
is read, so no later change is missed.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from scopekeeper.errors import words
from scopekeeper.keeper.event_queue import EventQueue
from scopekeeper.keeper.events import (
    Blind,
    Event,
    LeaderEnded,
    Overflow,
    ScopeAppeared,
    What,
)
from scopekeeper.keeper.owner_watch import OwnerWatch
from scopekeeper.keeper.processes import Processes, WatchedProcess, allow_descriptors
from scopekeeper.keeper.scope_discovery import ScopeDiscovery
from scopekeeper.keeper.slice_kills import SliceKills, kills_of
from scopekeeper.keeper.stdio_watch import Followed, StdioWatch
from scopekeeper.kernel import cgroupfs, oomd
from scopekeeper.kernel.exit_status import Exit, start_of
from scopekeeper.kernel.inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
    IN_ONLYDIR,
    Inotify,
    Subscription,
)
from scopekeeper.kernel.inotify import Event as FileEvent
from scopekeeper.kernel.unix_sockets import Sockets
from scopekeeper.scope import names
from scopekeeper.scope.model import Owner, Scope
from scopekeeper.scope.placement import Caller

_OF_SCOPE = IN_CREATE | IN_DELETE | IN_ATTRIB | IN_ONLYDIR
_CHUNKS = 64
"""So many reads at once at most: members could make events without end."""


@dataclass(slots=True)
class _Leaf:
    directory: str
    events: Subscription | None = None
    kills: int = 0
    leader: WatchedProcess | None = None
    holder: WatchedProcess | None = None
    """What holds the scope while the leaf waits for its first process."""
    stdio: Followed | None = None


@dataclass(slots=True)
class _Scope:
    directory: str
    inode: int
    folder: Subscription | None = None
    events: Subscription | None = None
    memory: Subscription | None = None
    kills: int = 0
    """OOM kills in the whole scope."""
    leaves: dict[str, _Leaf] = field(default_factory=dict)
    owners: frozenset[Owner] = frozenset()


class Watch:
    """Watches every scope of the caller's uid; ``report(event)`` is called from the loop.

    Changes of one scope are coalesced. Call the methods in the loop's thread.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        caller: Caller,
        report: Callable[[Event], None],
        *,
        notes: str | None = None,
    ) -> None:
        """Open what is needed, and watch nothing yet; raises LimitError."""
        self._loop = loop
        self._queue = EventQueue(loop, report)
        self._is_started = False
        allow_descriptors()
        self._scopes: dict[str, _Scope] = {}
        self._followers: dict[Owner, set[str]] = {}
        self._slices = SliceKills()
        self._inotify = Inotify(self._overflowed, self._failed)
        self.processes = Processes(loop)
        self._owners = OwnerWatch(
            self._inotify, self.processes, caller.mount, self._queue.owner_changed
        )
        self._stdio = StdioWatch(loop, self._inotify, self.processes)
        self._discovery = ScopeDiscovery(
            self._inotify, caller, self._came, self._went, self._failed, notes=notes
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of exit statuses in use here; see ``Processes.sources``."""
        return self.processes.sources

    @property
    def bases(self) -> tuple[str, ...]:
        """The folders that are watched for scopes."""
        return self._discovery.bases

    @property
    def sockets(self) -> Sockets:
        """What is known of the sockets of servers."""
        return self._stdio.sockets

    @property
    def scopes(self) -> tuple[str, ...]:
        """The directories of the scopes that are watched."""
        return tuple(self._scopes)

    def start(self) -> None:
        """Start watching; report every existing scope as ScopeAppeared."""
        self._loop.add_reader(self._inotify.fileno(), self._look)
        self._discovery.start()
        self._is_started = True

    def close(self) -> None:
        """Stop watching and reporting, and close every descriptor."""
        if self._inotify.fileno() >= 0:
            self._loop.remove_reader(self._inotify.fileno())
        self._queue.clear()
        self._scopes.clear()
        self._followers.clear()
        self._stdio.close()
        self.processes.close()
        self._inotify.close()

    def _look(self) -> None:
        """Handle what happened; ends of leaders first, since they precede those of the leaves."""
        self.processes.look()
        self._inotify.dispatch()

    def take_in(self) -> None:
        """Handle and report all that has happened until now, without waiting for the loop."""
        self.processes.look()
        for _ in range(_CHUNKS):
            if not self._inotify.dispatch():
                break
        self._queue.flush()

    def followers(self, owner: Owner) -> set[str]:
        """Return the directories of the scopes for which an owner is followed."""
        return set(self._followers.get(owner, ()))

    def watch_file(self, path: str, changed: Callable[[], None]) -> None:
        """Have changed called when a file is created or written to, if its folder exists."""
        folder, _, name = path.rpartition("/")

        def notify(event: FileEvent) -> None:
            if event.name == name:
                changed()

        self.watch_folder(folder, IN_CREATE | IN_MODIFY, notify)

    def watch_folder(self, path: str, mask: int, notify: Callable[[FileEvent], None]) -> bool:
        """Have notify called with events of what is in a folder; return False without one."""
        with self._blind_on_failure(""):
            return self._inotify.add(path, mask | IN_ONLYDIR, notify) is not None
        return False

    def rescan(self) -> None:
        """Walk the whole hierarchy, in case a scope is where nothing is watched."""
        self._discovery.walk()

    def follow(self, scope: Scope) -> None:
        """Follow the leaders and owners of a scope as just read, and no others.

        Those that have ended already are reported too. A scope no longer watched is ignored.
        """
        watched = self._scopes.get(scope.directory)
        if watched is None:
            return
        with self._blind_on_failure(scope.directory):
            self._watch_memory(watched)
        owners = set()
        for member in scope.members:
            leaf = watched.leaves.get(member.leaf)
            if leaf is None or member.problem:
                continue
            if leaf.holder is None and member.waits:
                self._follow_holder(watched, leaf, member.holder)
            if not member.lives and start_of(member.pid or 0) != member.start_time:
                continue  # ended; otherwise it is on its way in
            if leaf.leader is None and member.pid and member.start_time is not None:
                self._follow_leader(watched, leaf, member.pid, member.start_time)
            if leaf.stdio is None and member.kind == "mcp" and member.pid and member.leader_lives:
                self._follow_stdio(watched, leaf, member.pid)
            if member.owner_state is not None:
                owners.add(member.owner_state.owner)
        self._follow_owners(watched, frozenset(owners))

    def _follow_leader(self, scope: _Scope, leaf: _Leaf, pid: int, start_time: int) -> None:
        name = leaf.directory.rpartition("/")[2]

        def ended(how: Exit) -> None:
            self._queue.put(LeaderEnded(scope.directory, name, how))

        with self._blind_on_failure(scope.directory):
            leaf.leader = self.processes.watch(pid, start_time, ended)

    def _follow_holder(self, scope: _Scope, leaf: _Leaf, pid: int) -> None:
        name = leaf.directory.rpartition("/")[2]

        def ended(_: Exit) -> None:
            self._queue.change(scope.directory, name, What.RECORD)

        with self._blind_on_failure(scope.directory):
            leaf.holder = self.processes.watch(pid, start_of(pid) or 0, ended)

    def _follow_stdio(self, scope: _Scope, leaf: _Leaf, pid: int) -> None:
        name = leaf.directory.rpartition("/")[2]

        def left() -> None:
            self._queue.change(scope.directory, name, What.PEER_LEFT)

        with self._blind_on_failure(scope.directory):
            leaf.stdio = self._stdio.follow(pid, left)

    def _follow_owners(self, scope: _Scope, owners: frozenset[Owner]) -> None:
        for owner in scope.owners - owners:
            followers = self._followers[owner]
            followers.discard(scope.directory)
            if not followers:
                del self._followers[owner]
                self._owners.forget(owner)
        for owner in owners - scope.owners:
            self._followers.setdefault(owner, set()).add(scope.directory)
            with self._blind_on_failure(scope.directory):
                self._owners.follow(owner)
        scope.owners = owners

    def _came(self, directory: str) -> None:
        try:
            inode = os.stat(directory).st_ino
        except OSError:
            self._slices.forget_unexplained(directory)
            return  # gone already, and never reported
        scope = self._scopes.get(directory)
        if scope is not None and scope.inode != inode:
            self._went(directory)
            scope = None
        if scope is not None:
            with self._blind_on_failure(directory):
                self._find_leaves(scope)
            return
        scope = self._scopes[directory] = _Scope(directory, inode)
        with self._blind_on_failure(directory):
            scope.folder = self._add(
                directory, "", _OF_SCOPE, lambda event: self._changed(scope, event)
            )
            scope.events = self._add(
                directory, "cgroup.events", IN_MODIFY, lambda _: self._queue.touch(directory, "")
            )
            self._watch_memory(scope)
            self._find_leaves(scope, new=True)
        self._queue.put(ScopeAppeared(directory))

    def _add(
        self, directory: str, name: str, mask: int, notify: Callable[[FileEvent], None]
    ) -> Subscription | None:
        """Watch a cgroup or a file in it, even if a member has taken away our permission."""
        path = f"{directory}/{name}" if name else directory
        try:
            return self._inotify.add(path, mask, notify)
        except PermissionError:
            cgroupfs.unlock(directory)
            return self._inotify.add(path, mask, notify)

    def _find_leaves(self, scope: _Scope, *, new: bool = False) -> None:
        there = {name for name in cgroupfs.children(scope.directory) if names.parse_leaf(name)}
        for name in scope.leaves.keys() - there:
            self._leaf_went(scope, name)
        for name in there - scope.leaves.keys():
            self._leaf_came(scope, name, quietly=new)

    def _went(self, directory: str) -> None:
        scope = self._scopes.pop(directory, None)
        if scope is None:
            return
        self._inotify.remove(scope.folder)
        self._inotify.remove(scope.events)
        self._inotify.remove(scope.memory)
        for name in tuple(scope.leaves):
            self._drop_leaf(scope, name)
        self._count_last_kills(directory)
        self._follow_owners(scope, frozenset())
        self._queue.gone(directory)

    def _changed(self, scope: _Scope, event: FileEvent) -> None:
        """Handle an event of a scope's directory."""
        if self._scopes.get(scope.directory) is not scope:
            return
        if event.mask & IN_ATTRIB:
            if not event.name or event.name in scope.leaves:
                self._queue.change(scope.directory, event.name, What.RECORD)
                self._note_oomd(scope.directory, event.name)
        elif names.parse_leaf(event.name) is None:
            return
        elif event.mask & IN_DELETE:
            self._leaf_went(scope, event.name)
        else:
            with self._blind_on_failure(scope.directory):
                self._leaf_came(scope, event.name)

    def _leaf_came(self, scope: _Scope, name: str, *, quietly: bool = False) -> None:
        if name in scope.leaves:
            return
        leaf = scope.leaves[name] = _Leaf(f"{scope.directory}/{name}")
        if not quietly:
            self._queue.change(scope.directory, name, What.CAME)
        leaf.events = self._add(
            leaf.directory,
            "cgroup.events",
            IN_MODIFY,
            lambda _: self._queue.touch(scope.directory, name),
        )
        if not self._is_started:
            leaf.kills = kills_of(leaf.directory, "memory.events.local")
        self._watch_memory(scope)

    def _watch_memory(self, scope: _Scope) -> None:
        """Watch for OOM kills, as soon as there is a memory controller."""
        if scope.memory is None:
            scope.memory = self._add(
                scope.directory, "memory.events", IN_MODIFY, lambda _: self._count_kills(scope)
            )
            if scope.memory is None:
                return
            if not self._is_started:
                scope.kills = kills_of(scope.directory)
            self._slices.begin(scope.directory, reported=scope.kills)
            self._count_kills(scope)

    def _leaf_went(self, scope: _Scope, name: str) -> None:
        if self._drop_leaf(scope, name):
            self._queue.change(scope.directory, name, What.WENT)

    def _drop_leaf(self, scope: _Scope, name: str) -> bool:
        """Forget a leaf, but not its leader: its exit status may become known later."""
        leaf = scope.leaves.pop(name, None)
        if leaf is None:
            return False
        self._inotify.remove(leaf.events)
        self._stdio.forget(leaf.stdio)
        return True

    def _count_kills(self, scope: _Scope) -> None:
        """Report OOM kills, reading the counts at once: the scope may be removed any moment."""
        kills = kills_of(scope.directory)
        if kills <= scope.kills:
            return
        self._slices.explain(scope.directory, kills - scope.kills)
        scope.kills = kills
        found = ""
        for name, leaf in scope.leaves.items():
            own = kills_of(leaf.directory, "memory.events.local")
            if own > leaf.kills:
                leaf.kills, found = own, name
                self._queue.change(scope.directory, name, What.OOM_KILL)
        if not found:
            self._queue.change(scope.directory, "", What.OOM_KILL)

    def _note_oomd(self, directory: str, leaf: str) -> None:
        """Report that systemd-oomd kills a leaf, or with leaf '' the scope.

        Read at once: it marks a cgroup before it kills, and systemd may remove the scope after.
        """
        if oomd.kills_of(f"{directory}/{leaf}"):
            self._queue.change(directory, leaf, What.OOMD_KILL)

    def _count_last_kills(self, directory: str) -> None:
        """Report a kill of the last processes of a scope that is removed, with its count."""
        if not self._slices.has_unexplained(directory):
            return
        others = [each for each in self._scopes.values() if each.memory is not None]
        for each in others:
            self._count_kills(each)
        # another one may be gone as well, and not be known to be: it could have been in that one
        is_sure = all(os.path.isdir(each.directory) for each in others)
        if is_sure and self._slices.has_unexplained(directory):
            self._queue.change(directory, "", What.OOM_KILL)
        self._slices.forget_unexplained(directory)

    def _overflowed(self) -> None:
        """Find what the lost events were about, then have everything read again."""
        self.rescan()
        for owner in tuple(self._followers):
            self._queue.owner_changed(owner)
        self._queue.put(Overflow())

    def _failed(self, error: Exception) -> None:
        self._queue.put(Blind("", words(error)))

    @contextlib.contextmanager
    def _blind_on_failure(self, directory: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  one scope must not hide the others
            self._queue.put(Blind(directory, f"{directory}: {words(error)}"))
