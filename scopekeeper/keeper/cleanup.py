"""What there is to do after an end: owned paths, and processes that had left their scope."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from scopekeeper.keeper.jobs import Jobs
from scopekeeper.lifecycle import escaped
from scopekeeper.owned.release import release_due
from scopekeeper.scope.model import Snapshot

if TYPE_CHECKING:
    from scopekeeper.owned.store import Damaged

_log = logging.getLogger("scopekeeper")

_HUNT_SECONDS = 2.0
"""How long after an end it is looked for processes that had left; some are just about to end."""
_HUNT_PAUSE = 20
"""How many times longer than a look the next one waits, where ends follow each other."""


class Cleanup:
    """Does both a little later, once for all that ended meanwhile.

    snapshot returns the scopes as they were last seen, stops_escaped what the policy says of
    processes that left theirs.
    """

    def __init__(
        self,
        jobs: Jobs,
        mount: str,
        uid: int,
        snapshot: Callable[[], Snapshot],
        stops_escaped: Callable[[], bool],
    ) -> None:
        self._jobs = jobs
        self._mount, self._uid = mount, uid
        self._snapshot = snapshot
        self._stops_escaped = stops_escaped
        self._release_timer: asyncio.TimerHandle | None = None
        self._hunt_timer: asyncio.TimerHandle | None = None
        self._hunt_seconds = _HUNT_SECONDS
        self._told: set[tuple[int, str]] = set()
        self._told_damaged: tuple[Damaged, ...] = ()

    def __bool__(self) -> bool:
        return self._release_timer is not None or self._hunt_timer is not None

    def cancel(self) -> None:
        """Do nothing more; the next keeper does it."""
        for timer in (self._release_timer, self._hunt_timer):
            if timer is not None:
                timer.cancel()
        self._release_timer = self._hunt_timer = None

    def release(self, seconds: float = 0.0) -> None:
        """Remove owned paths whose last user may have gone."""
        if self._release_timer is not None:
            self._release_timer.cancel()
        self._release_timer = self._jobs.begin_later(seconds, self._release)

    def hunt(self) -> None:
        """Look for what left its scope before its member ended, and do what the policy says."""
        if self._hunt_timer is None:
            self._hunt_timer = self._jobs.begin_later(self._hunt_seconds, self._hunt)

    async def _release(self) -> None:
        self._release_timer = None
        report = await asyncio.to_thread(release_due, self._mount)
        for outcome in report.done:
            text = f"{outcome.what}: {outcome.claim.path}: {outcome.evidence}"
            _log.info("%s%s", text, f"; {outcome.problem}" if outcome.problem else "")
        if report.problem:
            _log.error("%s", report.problem)
        for each in report.damaged:
            if each not in self._told_damaged:
                _log.warning("%s: %s; it is left alone", each.file, each.problem)
        self._told_damaged = report.damaged
        if report.try_again is not None and self._release_timer is None:
            self.release(report.try_again)

    async def _hunt(self) -> None:
        self._hunt_timer = None
        snapshot = self._snapshot()
        began = time.monotonic()
        found = await asyncio.to_thread(escaped.find, snapshot, self._uid)
        self._hunt_seconds = max(_HUNT_SECONDS, _HUNT_PAUSE * (time.monotonic() - began))
        for each in found:
            if (each.pid, each.start_time) not in self._told:
                _log.warning("%s of %s: %s", each.command, each.session, each.evidence)
        self._told = {(each.pid, each.start_time) for each in found}
        doomed = [each for each in found if escaped.may_be_ended(each)]
        if doomed and self._stops_escaped():
            outcomes = await asyncio.to_thread(escaped.end, doomed, snapshot, self._uid)
            for pid, outcome in outcomes.items():
                _log.info("process %d: %s", pid, outcome)
