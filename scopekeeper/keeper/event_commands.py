"""Has commands run for what happens, as the policy's rules ask for: some at once, the rest waits.

A storm of ends must harm nobody: each rule starts its command so often a minute and no more, what
waits is bounded, and what is dropped is counted, logged once, and reported to the next start.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from scopekeeper.history.end import TRIAL
from scopekeeper.keeper import command_input, command_run, notices
from scopekeeper.keeper.command_cgroup import PREFIX
from scopekeeper.keeper.jobs import Jobs, in_thread
from scopekeeper.policy.command_rules import FAILED, ON_END, CommandRule
from scopekeeper.scope.names import lane_class
from scopekeeper.scope.reason import Reason

_log = logging.getLogger("scopekeeper")

MOST_AT_ONCE = 4
MOST_WAITING = 100
"""Of one rule."""
_SOON = 0.001
"""Seconds that need no timer."""
Run = Callable[[CommandRule, command_input.Given], command_run.Outcome]


@dataclass(slots=True)
class _Queue:
    """What waits for the command of one rule."""

    waiting: deque[tuple[CommandRule, notices.Notice]] = field(default_factory=deque)
    dropped: int = 0
    """Since the last start."""
    lost: int = 0
    """Dropped since it was empty."""
    tokens: float = 0.0
    """How many starts were allowed when that was counted last."""
    counted: float = 0.0
    started: float = 0.0
    """When it was counted, and when the last start was, by the loop's clock."""
    problem: str = ""
    """What the last start failed by."""

    def seconds_left(self, now: float) -> float:
        """Return the time until the next start is allowed: so many in any minute."""
        rate = self.waiting[0][0].rate
        self.tokens = min(rate, self.tokens + (now - self.counted) * rate / 60)
        self.counted = now
        left = (1 - self.tokens) * 60 / rate
        return left if left > _SOON else 0.0


class EventCommands:
    """Takes in every notice; rules returns the rules in force."""

    def __init__(
        self, jobs: Jobs, rules: Callable[[], Collection[CommandRule]], run: Run = command_run.run
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs = jobs
        self._rules = rules
        self._run_command = run
        self._queues: dict[str, _Queue] = {}
        """By the title of the rule."""
        self._running = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __bool__(self) -> bool:
        """Return whether a command runs or waits."""
        return bool(self._running) or any(queue.waiting for queue in self._queues.values())

    def start(self) -> None:
        """Clean up after a keeper that was killed."""
        if self._rules():
            self._jobs.begin(self._forget_failed)

    def take_in(self, notice: notices.Notice) -> None:
        """Queue the commands for a notice."""
        found = [rule for rule in self._rules() if rule.enabled and concerns(rule, notice)]
        for rule in found:
            self._add(rule, notice)
        if found:
            self._start()

    def close(self) -> None:
        """Start no more; what runs is bounded, and goes on."""
        self._is_closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        for title, queue in self._queues.items():
            queue.lost += len(queue.waiting)
            queue.waiting.clear()
            _log_lost(title, queue)

    def _add(self, rule: CommandRule, notice: notices.Notice) -> None:
        queue = self._queues.get(rule.title)
        if queue is None:
            queue = self._queues[rule.title] = _Queue(tokens=rule.rate, counted=self._loop.time())
        if len(queue.waiting) < MOST_WAITING:
            queue.waiting.append((rule, notice))
            return
        queue.dropped += 1
        queue.lost += 1
        if queue.lost == 1:
            _log.warning("%s: %d events wait for its command; more are dropped until it has taken "
                         "some", rule.title, MOST_WAITING)  # fmt: skip

    def _start(self) -> None:
        """Start what may be started now; look again when the next one may be."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        now = self._loop.time()
        while not self._is_closed and self._running < MOST_AT_ONCE:
            waiting = {queue.seconds_left(now): queue
                       for queue in sorted(self._queues.values(), key=lambda each: -each.started)
                       if queue.waiting}  # fmt: skip
            if not waiting:
                return
            soonest = min(waiting)
            if soonest:
                self._alarm = self._loop.call_later(soonest, self._start)
                return
            self._begin(waiting[0.0], now)

    def _begin(self, queue: _Queue, now: float) -> None:
        rule, notice = queue.waiting.popleft()
        queue.tokens -= 1
        queue.started = now
        dropped, queue.dropped = queue.dropped, 0
        if not queue.waiting:
            _log_lost(rule.title, queue)
        self._running += 1
        self._jobs.begin(self._run, queue, rule, notice, dropped)

    async def _forget_failed(self) -> None:
        await in_thread(command_run.forget_failed)

    async def _run(
        self, queue: _Queue, rule: CommandRule, notice: notices.Notice, dropped: int
    ) -> None:
        try:
            given = command_input.given(rule, notice, dropped=dropped)
            self._note(queue, rule, await in_thread(self._run_command, rule, given))
        finally:
            self._running -= 1
            self._start()

    def _note(self, queue: _Queue, rule: CommandRule, outcome: command_run.Outcome) -> None:
        """Log a failure, once until the command fails otherwise or succeeds."""
        printed = f": {outcome.last_line}" if outcome.last_line else ""
        problem = f"{outcome.problem}{printed}" if outcome.problem else ""
        if problem and problem != queue.problem:
            _log.error("%s: its command failed, and is not repeated: %s", rule.title, problem)
        elif queue.problem and not problem:
            _log.info("%s: its command works again", rule.title)
        queue.problem = problem


def _log_lost(title: str, queue: _Queue) -> None:
    if queue.lost:
        _log.warning("%s: its command was not started for %d events", title, queue.lost)
        queue.lost = 0


def concerns(rule: CommandRule, notice: notices.Notice) -> bool:
    """Return whether a rule is about a notice."""
    if isinstance(notice, notices.MemberEnded):
        end = notice.end
        is_own = end.owner.startswith(PREFIX) or (end.session, end.lane) == TRIAL
        if rule.table != ON_END or is_own or not _is_for(rule, end.lane, end.kind):
            return False
        if not rule.reasons:
            return end.reason is not Reason.CONTINUED
        has_failed = end.reason is Reason.EXITED and end.exit_status not in (None, 0)
        return end.reason.value in rule.reasons or (has_failed and FAILED in rule.reasons)
    if rule.table == ON_END or type(notice).__name__ not in rule.events:
        return False
    if isinstance(notice, notices.MemoryHigh):
        is_passed = notice.share == rule.memory_share
        kind = notice.member.kind if notice.member is not None else notice.scope.kind
        return is_passed and _is_for(rule, notice.scope.lane, kind)
    if isinstance(notice, notices.OrphanFound | notices.ScratchHigh):
        return _is_for(rule, notice.scope.lane, notice.member.kind)
    if isinstance(notice, notices.ProcessEscaped):
        return _is_for(rule, notice.process.lane, notice.process.kind)
    if isinstance(notice, notices.RunWarning):
        return _is_for(rule, notice.run.lane, "pty" if notice.run.tty else "exec")
    return False


def _is_for(rule: CommandRule, lane: str, kind: str) -> bool:
    is_lane = not rule.lanes or lane_class(lane) in rule.lanes
    return is_lane and (not rule.kinds or kind in rule.kinds)
