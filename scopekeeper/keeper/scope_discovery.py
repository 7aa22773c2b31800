"""Finds the scopes of this uid as they come and go, without watching every cgroup.

It watches *bases*, the folders that directly contain scopes:

- Standing bases, whether they exist yet or not: ``scopekeeper.slice`` of the uid's managers; for
  root also ``scopekeeper`` at the top of the mount, or below the cgroup of a container that shares
  it; for another uid without a manager the cgroup delegated to it.
- The folder of every scope that a walk of the whole hierarchy finds at the start: a service's own
  cgroup (``Delegate=yes``), a delegated one, the PATH of ``--placement cgroup:PATH``.
- Folders noted by ``run``: when it creates a scope in a plain cgroup, it puts a link to that folder
  into ``notes_folder``. Only the keeper creates ``notes_folder``: if it is missing there was no
  keeper yet, and the walk of the first keeper finds the scope.

The folders above a base are watched too, for the creation and removal of the next level: a removed
cgroup sends no event to its own watch. So a service that starts or stops wakes the keeper only if a
base is in its slice.
"""

import contextlib
import functools
import os
from collections.abc import Callable

from scopekeeper.errors import LimitError, ScopekeeperError
from scopekeeper.kernel import cgroupfs, mounts
from scopekeeper.kernel.inotify import (
    IN_CREATE,
    IN_DELETE,
    IN_MOVED_TO,
    IN_ONLYDIR,
    Event,
    Inotify,
    Subscription,
)
from scopekeeper.launch.create_cgroup import notes_folder
from scopekeeper.scope import names
from scopekeeper.scope.choose_placement import find
from scopekeeper.scope.placement import Caller, managed
from scopekeeper.scope.placement_options import folder_of_root, wanted
from scopekeeper.scope.search import Search
from scopekeeper.systemd.units import answers

_COMES_AND_GOES = IN_CREATE | IN_DELETE | IN_ONLYDIR


def standing_bases(caller: Caller) -> list[str]:
    """Return the folders in which the caller's uid creates scopes by default."""
    bases = [managed(caller, "user").base]
    if caller.uid == 0:
        bases += [managed(caller, "system").base, folder_of_root(caller)]
    elif not answers(caller.uid):
        # a delegated cgroup; a launch without a runtime folder leaves no note of it
        with contextlib.suppress(ScopekeeperError):
            bases.append(find(caller, wanted()).base)
    return bases


class _Base:
    """A folder that contains scopes, may contain some, or does not exist yet."""

    def __init__(self, discovery: "ScopeDiscovery", directory: str, *, standing: bool) -> None:
        self.directory = directory
        self.standing = standing
        self._discovery = discovery
        top = discovery.mount
        self._levels = [top]
        for part in filter(None, directory[len(top) :].split("/")):
            self._levels.append(f"{self._levels[-1]}/{part}")
        self._watches: list[Subscription] = []

    def descend(self) -> bool:
        """Watch as far down as folders exist; return True if the base itself exists."""
        while len(self._watches) < len(self._levels):
            at = len(self._watches)
            watch = self._discovery.watch(
                self._levels[at], _COMES_AND_GOES, functools.partial(self._changed, at)
            )
            if watch is None:
                return os.path.isdir(self.directory)
            self._watches.append(watch)
        return True

    def _changed(self, at: int, event: Event) -> None:
        path = f"{self._levels[at]}/{event.name}"
        if at + 1 == len(self._levels):
            self._discovery.scope_event(path, gone=bool(event.mask & IN_DELETE))
        elif path == self._levels[at + 1]:
            was_there = len(self._watches) == len(self._levels)
            self.let_go(at + 1)
            if was_there:
                self._discovery.base_gone(self)
            if not event.mask & IN_DELETE and self._discovery.has(self) and self.descend():
                self._discovery.base_came(self)

    def let_go(self, start: int = 0) -> None:
        """Remove the watches from a level on."""
        for watch in self._watches[start:]:
            self._discovery.inotify.remove(watch)
        del self._watches[start:]


class ScopeDiscovery:
    """Calls ``came(directory)`` and ``went(directory)`` as scopes come and go.

    ``came`` may be called again for a scope: if it was replaced, or a walk found it again. ``went``
    is called for every directory with a name of ours, known or not. ``failed(error)`` is called if
    something cannot be watched (LimitError, OSError); the rest continues.
    """

    def __init__(
        self,
        inotify: Inotify,
        caller: Caller,
        came: Callable[[str], None],
        went: Callable[[str], None],
        failed: Callable[[Exception], None],
        *,
        notes: str | None = None,
    ) -> None:
        self.inotify = inotify
        self.mount = caller.mount
        self._caller = caller
        self._came = came
        self._went = went
        self._failed = failed
        self._notes = notes_folder(caller.uid) if notes is None else notes
        self._notes_watch: Subscription | None = None
        self._bases: dict[str, _Base] = {}
        self._scopes: dict[str, set[str]] = {}
        """The scopes reported to have come, by base."""

    @property
    def bases(self) -> tuple[str, ...]:
        """The folders watched for scopes, including those that do not exist yet."""
        return tuple(self._bases)

    def start(self) -> None:
        """Start watching, then report every scope that exists."""
        self._watch_notes()
        try:
            bases = standing_bases(self._caller)
        except (OSError, LookupError) as error:
            self._failed(error)
            bases = []
        for directory in bases:
            self.add(directory, standing=True)
        self.walk()

    def close(self) -> None:
        """Remove every watch."""
        for base in self._bases.values():
            base.let_go()
        self._bases.clear()
        self._scopes.clear()
        self.inotify.remove(self._notes_watch)

    def walk(self) -> None:
        """Walk the whole hierarchy; report every scope that exists, and those that have gone."""
        self._read_notes()
        for base in tuple(self._bases.values()):
            base.let_go()  # a watched folder may have been replaced
            if not base.descend():
                self.base_gone(base)
        found: dict[str, set[str]] = {}
        try:
            for scope in Search(self.mount, self._caller.uid).found:
                if self.is_ours(scope):
                    found.setdefault(os.path.dirname(scope), set()).add(scope)
        except Exception as error:  # noqa: BLE001  what was found before it counts
            self._failed(error)
        for directory in found:
            self.add(directory)
        for directory in tuple(self._bases):
            for scope in self._scopes.get(directory, set()) - found.get(directory, set()):
                if not self.is_ours(scope):
                    self.scope_event(scope, gone=True)
        for scopes in found.values():
            for scope in sorted(scopes):
                self.scope_event(scope, gone=False)

    def add(self, directory: str, *, standing: bool = False) -> None:
        """Watch one more base; it is forgotten when it is removed, unless it is standing."""
        if directory in self._bases or not mounts.is_within(directory, self.mount):
            return
        base = self._bases[directory] = _Base(self, directory, standing=standing)
        if base.descend():
            self.base_came(base)
        elif not standing:
            self.base_gone(base)

    def watch(self, path: str, mask: int, notify: Callable[[Event], None]) -> Subscription | None:
        """Have notify called with events of a folder; None if it is missing or not watchable."""
        try:
            return self.inotify.add(path, mask, notify)
        except (LimitError, OSError) as error:
            self._failed(error)
            return None

    def has(self, base: _Base) -> bool:
        """Return True if a base is still watched."""
        return self._bases.get(base.directory) is base

    def is_ours(self, scope: str) -> bool:
        """Return True if a scope exists and belongs to our uid."""
        try:
            return os.stat(scope).st_uid == self._caller.uid
        except OSError:
            return False

    def scope_event(self, directory: str, *, gone: bool) -> None:
        """Report a folder that came or went in a base, if it is a scope of ours."""
        base, _, name = directory.rpartition("/")
        if not _is_scope(name):
            return
        if gone:
            self._scopes.get(base, set()).discard(directory)
            self._went(directory)
        elif self.is_ours(directory):
            self._scopes.setdefault(base, set()).add(directory)
            self._came(directory)

    def base_came(self, base: _Base) -> None:
        """Report the scopes in a base that is watched from now on."""
        try:
            names_there = cgroupfs.children(base.directory)
        except OSError as error:
            self._failed(error)
            return
        for name in names_there:
            self.scope_event(f"{base.directory}/{name}", gone=False)

    def base_gone(self, base: _Base) -> None:
        """Report the scopes that went with their base; forget the base unless it is standing."""
        for scope in tuple(self._scopes.pop(base.directory, ())):
            self._went(scope)
        if base.standing or not self.has(base):
            return
        base.let_go()
        self._bases.pop(base.directory, None)
        with contextlib.suppress(OSError):
            os.unlink(f"{self._notes}/{names.escape(base.directory)}")
        # a launch that found the note a moment ago relies on it
        if os.path.isdir(base.directory):
            self.add(base.directory)

    def _watch_notes(self) -> None:
        # without a runtime folder launches leave no notes; it is not ours to create
        if not os.path.isdir(os.path.dirname(os.path.dirname(self._notes))):
            return
        with contextlib.suppress(OSError):
            os.makedirs(self._notes, mode=0o700, exist_ok=True)
            self._notes_watch = self.watch(
                self._notes, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR, self._note_came
            )

    def _note_came(self, event: Event) -> None:
        self._read_note(event.name)

    def _read_notes(self) -> None:
        with contextlib.suppress(OSError):
            for name in os.listdir(self._notes):
                self._read_note(name)

    def _read_note(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self.add(os.path.normpath(os.readlink(f"{self._notes}/{name}")))


def _is_scope(name: str) -> bool:
    return names.parse_unit(name) is not None
