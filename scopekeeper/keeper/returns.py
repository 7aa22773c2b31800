"""Puts back what leaves its member by a scope of its own, as soon as the manager has made it.

The manager makes such scopes in a slice of its own choice: ``app.slice`` of a user's, and
``system.slice`` (systemd.special(7)). That is watched from the first member on whose rules say
``escaped = "return"``.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence

from scopekeeper.errors import words
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.keeper.notices import MemberStarted
from scopekeeper.keeper.watch import Watch
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.inotify import IN_CREATE, IN_DELETE, Event
from scopekeeper.lifecycle.bring_back import bring_back, is_own_scope, step
from scopekeeper.lifecycle.escaped import Escaped, living_members
from scopekeeper.policy.rules import Policy
from scopekeeper.scope.model import Scope, Snapshot
from scopekeeper.scope.placement import Caller, managed

_log = logging.getLogger("scopekeeper")

_PAUSES = (0.05, 0.2, 0.75, 2.0)
"""Seconds between looks at a new scope: its processes come after it, and execute after that."""


def slices(caller: Caller) -> list[str]:
    """Return the folders in which the caller's managers make the scopes that programs ask for."""
    found = [f"{managed(caller, 'user').manager_path}/app.slice"]
    if caller.uid == 0:
        found.append(f"{managed(caller, 'system').manager_path}/system.slice")
    return [caller.mount + path for path in found]


class Returns:
    """Looks at new scopes while a member lives whose processes are to come back."""

    def __init__(
        self,
        jobs: Jobs,
        watch: Watch,
        caller: Caller,
        scopes: Callable[[], tuple[Scope, ...]],
        policy: Callable[[], Policy],
    ) -> None:
        self._jobs = jobs
        self._watch = watch
        self._caller = caller
        self._scopes = scopes
        self._policy = policy
        self._is_watching = False
        self._watched: set[str] = set()

    def take_in(self, notice: MemberStarted) -> None:
        """Watch from now on, if this member is the first that needs it."""
        rule = self._policy().escaped(notice.scope.lane, notice.member.kind)
        if self._is_watching or rule != "return":
            return
        self._is_watching = True
        for each in slices(self._caller):
            parent, _, name = each.rpartition("/")

            def changed(event: Event, slice_: str = each, name: str = name) -> None:
                if event.name != name:
                    return
                if event.mask & IN_DELETE:
                    self._watched.discard(slice_)
                else:
                    self._enter(slice_)

            self._watch.watch_folder(parent, IN_CREATE | IN_DELETE, changed)
            self._enter(each)

    def _enter(self, slice_: str) -> None:
        if slice_ in self._watched:
            return

        def came(event: Event) -> None:
            self._came(f"{slice_}/{event.name}")

        if self._watch.watch_folder(slice_, IN_CREATE, came):
            self._watched.add(slice_)
            for name in cgroupfs.children(slice_):
                self._came(f"{slice_}/{name}")

    def _came(self, directory: str) -> None:
        if is_own_scope(directory):
            self._look_later(directory, _PAUSES)

    def _look_later(self, directory: str, pauses: Sequence[float]) -> None:
        if pauses:
            job = functools.partial(self._look, directory, pauses[1:])
            self._jobs.begin_later(pauses[0], job)

    async def _look(self, directory: str, pauses: Sequence[float]) -> None:
        living = living_members(Snapshot(self._scopes()))
        cgroup = directory[len(self._caller.mount) :]
        try:
            brought = await asyncio.to_thread(
                bring_back, self._caller.mount, cgroup, living, self._is_wanted
            )
        except OSError as error:
            _log.warning("cannot put back what left by %s: %s", directory, words(error))
            return
        if brought is not None:
            _log.warning("%s", brought.evidence)
        self._look_later(directory, pauses)

    def _is_wanted(self, each: Escaped) -> bool:
        return step(each, self._policy()) == "return"
