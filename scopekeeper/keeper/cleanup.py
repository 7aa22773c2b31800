"""Cleans up after an end: owned paths, and processes that escaped their scope."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from scopekeeper.history.end import End
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.keeper.log import named
from scopekeeper.keeper.notices import ProcessEscaped
from scopekeeper.lifecycle import escaped
from scopekeeper.lifecycle.bring_back import step
from scopekeeper.lifecycle.escaped_end import BY_RULE, ends_of
from scopekeeper.owned.release import release_due
from scopekeeper.policy.rules import Policy
from scopekeeper.scope.model import Snapshot

if TYPE_CHECKING:
    from scopekeeper.owned.store import Damaged

_log = logging.getLogger("scopekeeper")

_HUNT_SECONDS = 2.0
"""How long after an end to search for escaped processes; some are just about to end."""
_HUNT_PAUSE = 20
"""Where ends follow each other, wait this many times as long as the last search took."""


class Cleanup:
    """Does both a little later, once for everything that ended meanwhile.

    snapshot returns the scopes as last seen; policy the rules in force. record takes the ends of
    escaped processes, report each process that was found outside of its scope, once.
    """

    def __init__(
        self,
        jobs: Jobs,
        mount: str,
        uid: int,
        snapshot: Callable[[], Snapshot],
        policy: Callable[[], Policy],
        record: Callable[[End], None],
        report: Callable[[ProcessEscaped], None],
    ) -> None:
        self._jobs = jobs
        self._mount, self._uid = mount, uid
        self._snapshot = snapshot
        self._policy = policy
        self._record = record
        self._report = report
        self._release_timer: asyncio.TimerHandle | None = None
        self._hunt_timer: asyncio.TimerHandle | None = None
        self._hunt_seconds = _HUNT_SECONDS
        self._logged: set[tuple[int, str]] = set()
        self._logged_damaged: tuple[Damaged, ...] = ()

    def __bool__(self) -> bool:
        return self._release_timer is not None or self._hunt_timer is not None

    def cancel(self) -> None:
        """Cancel what is scheduled; the next keeper does it."""
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
        """Search for processes that escaped before their member ended; apply the policy to them."""
        if self._hunt_timer is None:
            self._hunt_timer = self._jobs.begin_later(self._hunt_seconds, self._hunt)

    async def _release(self) -> None:
        self._release_timer = None
        report = await asyncio.to_thread(release_due, self._mount)
        for outcome in report.done:
            text = f"{outcome.what}: {outcome.claim.title}: {outcome.evidence}"
            _log.info("%s%s", text, f"; {outcome.problem}" if outcome.problem else "")
        if report.problem:
            _log.error("%s", report.problem)
        for each in report.damaged:
            if each not in self._logged_damaged:
                _log.warning("%s: %s; skipped", each.file, each.problem)
        self._logged_damaged = report.damaged
        if report.try_again is not None and self._release_timer is None:
            self.release(report.try_again)

    async def _hunt(self) -> None:
        self._hunt_timer = None
        began = time.monotonic()
        found = await asyncio.to_thread(escaped.find_all, self._uid)
        snapshot = self._snapshot() if found else Snapshot(())
        if found:  # rare; only then the members that live count
            found = await asyncio.to_thread(escaped.find, snapshot, self._uid)
        self._hunt_seconds = max(_HUNT_SECONDS, _HUNT_PAUSE * (time.monotonic() - began))
        for each in found:
            if (each.pid, each.start_time) not in self._logged:
                text = f"{each.program} of {each.session}: {each.evidence}"
                _log.warning("%s", text, extra=_names(each))
                self._report(ProcessEscaped(each))
        self._logged = {(each.pid, each.start_time) for each in found}
        policy = self._policy()
        doomed = [each for each in found if step(each, policy) == "stop"]
        if doomed:
            living = escaped.living_members(snapshot)
            outcomes = await asyncio.to_thread(escaped.end, doomed, living, self._uid)
            for each in doomed:
                text = f"{each.program} of {each.session}: {each.evidence}"
                _log.warning("%s: %s", text, outcomes[each.pid], extra=_names(each))
            for end in ends_of(doomed, outcomes, BY_RULE):
                self._record(end)


def _names(each: escaped.Escaped) -> dict[str, dict[str, str]]:
    unit = each.scope.rpartition("/")[2]
    return named(session=each.session, lane=each.lane, scope=unit, member=each.leaf)
