"""Reports when the scratch folder of a member passes its ``scratch_max``.

No event says so. So this looks every ten seconds, in a thread, but only while a rule has a
``scratch_max`` and a member lives to which it applies: else it does not wake the keeper.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from scopekeeper.errors import ScopekeeperError
from scopekeeper.keeper import notices
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.keeper.log import named
from scopekeeper.owned.scratch_sizes import Scratch, of_members
from scopekeeper.quantities import show_bytes
from scopekeeper.scope.model import Member, Scope

_log = logging.getLogger("scopekeeper")

SECONDS = 10.0
"""Between two looks."""
SOON = 5.0
"""Before the first one: a launch has bound its folder by then."""
_PAUSE = 20
"""Where a look takes long, wait this many times as long until the next."""
_FALL = 0.95
"""The part of its maximum below which it has to fall before it can pass that again."""


class ScratchWatch:
    """scopes returns the living scopes; is_wanted whether any rule has a maximum.

    report is called with each ``ScratchHigh``, once until the folder has become smaller again.
    """

    def __init__(
        self,
        jobs: Jobs,
        scopes: Callable[[], Iterable[Scope]],
        is_wanted: Callable[[], bool],
        report: Callable[[notices.ScratchHigh], None],
    ) -> None:
        self._jobs = jobs
        self._scopes = scopes
        self._is_wanted = is_wanted
        self._report = report
        self._passed: set[str] = set()
        """The paths of the folders that were reported."""
        self._seen: frozenset[str] = frozenset()
        """The cgroups of the members at the last look."""
        self._timer: asyncio.TimerHandle | None = None
        self._problem = ""

    def changed(self) -> None:
        """Begin or end to look: rules or scopes have changed."""
        if not self._is_wanted():
            self.close()
        elif self._timer is None and not self._members() <= self._seen:
            self._timer = self._jobs.begin_later(SOON, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._seen = frozenset()

    def _members(self) -> frozenset[str]:
        return frozenset(
            member.cgroup
            for scope in self._scopes()
            if scope.lives
            for member in scope.living_members
        )

    async def _look(self) -> None:
        self._timer = None
        self._seen = self._members()
        began = time.monotonic()
        try:
            found = await asyncio.to_thread(of_members, self._seen, only_bounded=True)
            problem = ""
        except (OSError, ScopekeeperError) as error:
            found, problem = {}, f"the sizes of scratch folders are unknown: {error}"
        if problem and problem != self._problem:
            _log.error("%s", problem)
        self._problem = problem
        for scope in self._scopes():
            for member in scope.living_members:
                if member.cgroup in found:
                    self._compare(scope, member, found[member.cgroup])
        self._passed &= {each.path for each in found.values()}
        if found and self._timer is None and self._is_wanted():
            pause = max(SECONDS, _PAUSE * (time.monotonic() - began))
            self._timer = self._jobs.begin_later(pause, self._look)

    def _compare(self, scope: Scope, member: Member, each: Scratch) -> None:
        used = each.size.bytes if each.size is not None else 0
        if each.is_over and each.path not in self._passed:
            self._passed.add(each.path)
            text = f"{member.name} of {scope.shown_session}: {each.path} has {show_bytes(used)}"
            _log.warning(
                "%s, scratch_max is %s", text, show_bytes(each.max),
                extra=named(session=scope.session, lane=scope.lane, scope=scope.unit,
                            member=member.leaf),
            )  # fmt: skip
            self._report(notices.ScratchHigh(scope, member, each.path, used, each.max))
        elif used < _FALL * each.max:
            self._passed.discard(each.path)
