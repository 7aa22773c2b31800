"""Where scopes of this uid can appear, and how that is noticed without watching every cgroup.

Watched are *bases*, the folders that scopes are directly in:

- ``scopekeeper.slice`` of the uid's managers, and for root ``scopekeeper`` at the top of the
  mount; for others without a manager, the cgroup that was delegated to them: always, whether they
  exist yet or not.
- The folder of every scope that a walk of the whole hierarchy finds at the start: a service's own
  cgroup (``Delegate=yes``), a delegated one, the PATH of ``--placement cgroup:PATH``.
- What ``run`` leaves a note of: when it makes a scope in a plain cgroup, it puts a link to that
  folder into ``notes_folder``, which only the keeper makes. Without it there was no keeper yet,
  and the walk of the first one finds the scope.

The folders above a base are watched too, for the coming and going of the next one below: a removed
cgroup tells nothing by its own watch. So a service that starts or stops wakes the keeper where a
base is in its slice, and nothing else does.
"""

import contextlib
import functools
import os
from collections.abc import Callable

from scopekeeper.errors import LimitError, ScopekeeperError
from scopekeeper.kernel import cgroupfs
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
from scopekeeper.scope.placement_options import FOLDER, wanted
from scopekeeper.scope.search import Search
from scopekeeper.systemd.units import answers

_COMES_AND_GOES = IN_CREATE | IN_DELETE | IN_ONLYDIR


def standing_bases(caller: Caller) -> list[str]:
    """Return the folders in which the caller's uid makes scopes unless it is told otherwise."""
    bases = [managed(caller, "user").base]
    if caller.uid == 0:
        bases += [managed(caller, "system").base, f"{caller.mount}/{FOLDER}"]
    elif not answers(caller.uid):
        # a delegated cgroup, which a launch without a runtime folder leaves no note of
        with contextlib.suppress(ScopekeeperError):
            bases.append(find(caller, wanted()).base)
    return bases


class _Base:
    """A folder that has scopes in it, may have, or is not there yet."""

    def __init__(self, places: "ScopeDiscovery", directory: str, *, standing: bool) -> None:
        self.directory = directory
        self.standing = standing
        self._discovery = places
        top = places.mount
        self._levels = [top]
        for part in filter(None, directory[len(top) :].split("/")):
            self._levels.append(f"{self._levels[-1]}/{part}")
        self._watches: list[Subscription] = []

    def descend(self) -> bool:
        """Watch as far down as there is something; tell whether the base itself is there."""
        while len(self._watches) < len(self._levels):
            at = len(self._watches)
            watch = self._discovery.watch(
                self._levels[at], _COMES_AND_GOES, functools.partial(self._tell, at)
            )
            if watch is None:
                return os.path.isdir(self.directory)
            self._watches.append(watch)
        return True

    def _tell(self, at: int, event: Event) -> None:
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
        """Take back the watches from a level on."""
        for watch in self._watches[start:]:
            self._discovery.inotify.remove(watch)
        del self._watches[start:]


class ScopeDiscovery:
    """Tells of scopes that come and go: ``came(directory)``, ``went(directory)``.

    A scope can be told to have come that was told before: then it has been replaced, or a walk
    saw it again. ``went`` is told of every directory of our name, known or not. ``failed(error)``
    is told where something cannot be watched (LimitError, OSError); the rest goes on.
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
        """Those that were told to have come, by their base."""

    @property
    def bases(self) -> tuple[str, ...]:
        """The folders that are watched for scopes, those that are not there yet included."""
        return tuple(self._bases)

    def start(self) -> None:
        """Watch, then tell of all that is there."""
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
        """Take back every watch."""
        for base in self._bases.values():
            base.let_go()
        self._bases.clear()
        self._scopes.clear()
        self.inotify.remove(self._notes_watch)

    def walk(self) -> None:
        """Look at the whole hierarchy, and tell of every scope that is there, and that is not."""
        self._read_notes()
        for base in tuple(self._bases.values()):
            base.let_go()  # what is watched may be gone, and another in its place
            if not base.descend():
                self.base_gone(base)
        found: dict[str, set[str]] = {}
        try:
            for scope in Search(self.mount, self._caller.uid).found:
                if self.is_ours(scope):
                    found.setdefault(os.path.dirname(scope), set()).add(scope)
        except Exception as error:  # noqa: BLE001  what was found before that is there
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
        """Watch one more base; one that is not standing is forgotten when it goes."""
        if directory in self._bases or not cgroupfs.is_inside(directory, self.mount):
            return
        base = self._bases[directory] = _Base(self, directory, standing=standing)
        if base.descend():
            self.base_came(base)
        elif not standing:
            self.base_gone(base)

    def watch(self, path: str, mask: int, tell: Callable[[Event], None]) -> Subscription | None:
        """Have tell called with events of a folder; None where it is not there, or cannot be."""
        try:
            return self.inotify.add(path, mask, tell)
        except (LimitError, OSError) as error:
            self._failed(error)
            return None

    def has(self, base: _Base) -> bool:
        """Tell whether a base is still wanted."""
        return self._bases.get(base.directory) is base

    def is_ours(self, scope: str) -> bool:
        """Tell whether a scope is there and belongs to our uid."""
        try:
            return os.stat(scope).st_uid == self._caller.uid
        except OSError:
            return False

    def scope_event(self, directory: str, *, gone: bool) -> None:
        """Tell of a folder that came or went in a base, where it is a scope of ours."""
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
        """Tell of the scopes in a base that is watched from now on."""
        try:
            names_there = cgroupfs.children(base.directory)
        except OSError as error:
            self._failed(error)
            return
        for name in names_there:
            self.scope_event(f"{base.directory}/{name}", gone=False)

    def base_gone(self, base: _Base) -> None:
        """Tell of the scopes that went with their base, and forget it where nobody will miss it."""
        for scope in tuple(self._scopes.pop(base.directory, ())):
            self._went(scope)
        if base.standing or not self.has(base):
            return
        base.let_go()
        self._bases.pop(base.directory, None)
        with contextlib.suppress(OSError):
            os.unlink(f"{self._notes}/{names.escape(base.directory)}")
        # a launch that found the note there, a moment ago, relies on it
        if os.path.isdir(base.directory):
            self.add(base.directory)

    def _watch_notes(self) -> None:
        # no runtime folder: a launch has none either, and it is not ours to make
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
