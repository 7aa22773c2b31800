"""Notifies when an owner may have changed; the proof is ``snapshot.Reader.owner_state``.

A process is watched by its pidfd. A service leaves two traces, and both are watched, since either
can come first:

- Its manager keeps a link ``invocation:UNIT`` in ``/run/systemd/units`` (a user's manager: in
  ``/run/user/UID/systemd/units``), which it moves into place at each start and removes when the
  unit is inactive (systemd 252 and 257).
- Its cgroup is removed when it has stopped, and the system's manager writes the attribute
  ``user.invocation_id`` there at each start.
"""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field

from scopekeeper.keeper.processes import Processes, WatchedProcess
from scopekeeper.kernel.inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_MOVED_TO,
    IN_ONLYDIR,
    Event,
    Inotify,
    Subscription,
)
from scopekeeper.scope.model import Owner
from scopekeeper.systemd.units import epoch_of, manager_uid

_LINK = "invocation:"


@dataclass(slots=True)
class _Watched:
    process: WatchedProcess | None = None
    subscriptions: list[Subscription | None] = field(default_factory=list)


@dataclass(slots=True)
class _Folder:
    """The links of one manager, and which owners to check when the link of a unit changes."""

    subscription: Subscription | None = None
    by_unit: dict[str, set[Owner]] = field(default_factory=dict)


class OwnerWatch:
    """Follows owners; notify is called from the loop, possibly without any change.

    run is the folder of runtime state: ``/run`` except in tests.
    """

    def __init__(
        self,
        inotify: Inotify,
        processes: Processes,
        mount: str,
        notify: Callable[[Owner], None],
        *,
        run: str = "/run",
    ) -> None:
        self._inotify = inotify
        self._processes = processes
        self._mount = mount
        self._notify = notify
        self._run = run
        self._watched: dict[Owner, _Watched] = {}
        self._folders: dict[str, _Folder] = {}

    def __len__(self) -> int:
        """Count the owners that are followed."""
        return len(self._watched)

    def follow(self, owner: Owner) -> None:
        """Start following an owner; if it has changed already, notify at once.

        Raises LimitError; then the owner is not followed.
        """
        if owner in self._watched:
            return
        self._watched[owner] = watched = _Watched()
        try:
            if owner.unit:
                self._follow_unit(owner, watched)
            elif owner.pid and owner.start_time is not None:
                watched.process = self._processes.watch(
                    owner.pid, owner.start_time, lambda _: self._notify(owner)
                )
        except Exception:
            self.forget(owner)
            raise

    def _follow_unit(self, owner: Owner, watched: _Watched) -> None:
        uid = manager_uid(owner.cgroup)
        folder = self._folders.setdefault(uid, _Folder())
        folder.by_unit.setdefault(owner.unit, set()).add(owner)
        if folder.subscription is None:
            place = f"{self._run}/user/{uid}" if uid else self._run
            folder.subscription = self._inotify.add(
                f"{place}/systemd/units",
                IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR,
                lambda event: self._link_changed(folder, event),
            )
        if owner.cgroup:
            directory = self._mount + owner.cgroup
            parent, name = posixpath.split(directory)

            def removed(event: Event) -> None:
                if event.name == name:
                    self._notify(owner)

            def changed(event: Event) -> None:
                if not event.name:
                    self._notify(owner)

            watched.subscriptions = [
                self._inotify.add(parent, IN_DELETE | IN_ONLYDIR, removed),
                self._inotify.add(directory, IN_ATTRIB | IN_ONLYDIR, changed),
            ]
        if epoch_of(self._mount, owner.cgroup) != owner.epoch:
            self._notify(owner)

    def _link_changed(self, folder: _Folder, event: Event) -> None:
        if event.name.startswith(_LINK):
            for owner in tuple(folder.by_unit.get(event.name[len(_LINK) :], ())):
                self._notify(owner)

    def forget(self, owner: Owner) -> None:
        """Stop following an owner, if it is followed."""
        watched = self._watched.pop(owner, None)
        if watched is None:
            return
        self._processes.forget(watched.process)
        for subscription in watched.subscriptions:
            self._inotify.remove(subscription)
        if not owner.unit:
            return
        uid = manager_uid(owner.cgroup)
        folder = self._folders.get(uid)
        if folder is None:
            return
        owners = folder.by_unit.get(owner.unit, set())
        owners.discard(owner)
        if not owners:
            folder.by_unit.pop(owner.unit, None)
        if not folder.by_unit:
            self._inotify.remove(folder.subscription)
            del self._folders[uid]
