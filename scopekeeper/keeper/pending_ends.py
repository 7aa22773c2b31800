"""Holds members that have ended until it is known how, or until a deadline."""

import dataclasses
import signal
from collections import UserDict
from collections.abc import Callable, Collection, Iterable

from scopekeeper.history.end import End
from scopekeeper.keeper import continued, end_reason, events
from scopekeeper.keeper.scope_tracker import Ending, TrackedScope
from scopekeeper.kernel.exit_status import Exit
from scopekeeper.lifecycle import observe, stop_counts
from scopekeeper.scope.launched import words_of
from scopekeeper.scope.model import Member, Owner, Scope
from scopekeeper.scope.reason import Cause
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd.shutdown import Stopping, UnitState

_EXIT_SECONDS = 6.0
"""How long to wait for the exit status: a little longer than the watch waits for the parent to reap
the process."""
_OWNER_SECONDS, _FOLLOW_SECONDS = 3.0, 0.5
"""How long to wait for the end of the owner, if systemd stops both together, or if the member ended
by itself: it notices the end of its owner no later than systemd does."""
_EARLY_SECONDS = 0.1
"""How often to ask about one service while its members end."""
_MOST_SERVICES = 64
"""The most services that are remembered as killed."""
Key = tuple[str, str]
"""The directory of a scope, and the leaf of a member in it."""

_STOPPER_SECONDS = 0.5
"""How long to wait for the stopper to write the cause to the history: the mark may be gone with the
scope before it was read."""


class PendingEnds:
    """Holds each end until all that can be known of it is known, then calls report.

    now is the loop's clock, in seconds. If systemd may have caused an end and nothing else is
    known, doubt is called first, with the services that may have ended it, and whether to ask for
    the rest; it may set ``stopping`` and ``states``. If nothing explains it then, ask is called,
    and ``unexplained`` returns the end until ``explain`` is called.
    """

    def __init__(
        self,
        mount: str,
        now: Callable[[], float],
        report: Callable[[End], None],
        doubt: Callable[[Collection[Owner], bool], None],
        ask: Callable[[], None],
    ) -> None:
        self._mount = mount
        self._now = now
        self._report_end = report
        self._doubt = doubt
        self._ask = ask
        self._notes = stop_counts.Notes()
        self._waiting = _Ends()
        self._unexplained = _Ends()
        self.states: dict[Owner, UnitState] = {}
        """What systemd reports about services, until the ends in doubt are reported."""
        self.killed: dict[Owner, str] = {}
        """How services were killed: the newest of them. systemd forgets it at the next start."""
        self._asked_early: dict[Owner, float] = {}
        """When services were asked about lately."""
        self.stopping: Stopping | None = Stopping.NOTHING
        """What is being stopped around us; None while that is being asked: no deadline counts."""

    def __bool__(self) -> bool:
        return bool(self._waiting or self._unexplained)

    @property
    def moments(self) -> list[float]:
        """The deadlines of the ends that wait."""
        if self.stopping is None:
            return []
        return [each.deadline for each in self._waiting.values()]

    def leaves(self, directory: str) -> list[str]:
        """Return the leaves of a scope whose ends are not reported yet."""
        return [*self._waiting.leaves(directory), *self._unexplained.leaves(directory)]

    @property
    def all_leaves(self) -> list[str]:
        """The leaves of all scopes whose ends wait."""
        return [leaf for _, leaf in self._waiting]

    def add(self, directory: str, scope: TrackedScope, ended: Collection[Ending]) -> None:
        """Hold what has ended in a scope."""
        for ending in ended:
            leaf = ending.end.leaf
            ending.deadline = self._now() + _EXIT_SECONDS
            self._waiting[directory, leaf] = ending
            pid, start_time = ending.end.pid, ending.start_time
            following = continued.find(ending.key, pid, start_time, self._mount)
            if following is not None:
                self.went_on(*following)
            elif leaf in scope.exits:
                self._conclude(directory, ending, scope.exits.pop(leaf))

        self._ask_early(
            each for each in ended if self._waiting.get((directory, each.end.leaf)) is each
        )

    def _ask_early(self, ended: Iterable[Ending]) -> None:
        """Ask how the services ended that may have ended these, before they are started again."""
        now = self._now()
        owners = {each.owner for each in ended if each.owner is not None and each.is_in_doubt}
        self._asked_early = {
            owner: moment
            for owner, moment in self._asked_early.items()
            if now - moment < _EARLY_SECONDS
        }
        owners -= self.killed.keys() | self._asked_early.keys()
        if owners:
            self._asked_early |= dict.fromkeys(owners, now)
            self._doubt(owners, False)

    def note_killed(self, owner: Owner, state: UnitState) -> None:
        """Note how a service was killed, if it was."""
        if state.killed:
            self.killed[owner] = state.killed
            for oldest in list(self.killed)[:-_MOST_SERVICES]:
                del self.killed[oldest]

    def went_on(self, scope: Scope, member: Member) -> None:
        """Report the ends of members whose process goes on as this one."""
        if not member.earlier:
            return
        for key, ending in list(self._waiting.items()):
            if continued.is_it(ending.key, ending.end.pid, ending.start_time, member):
                del self._waiting[key]
                name = words_of(scope, member)
                self._report_end(observe.continued(ending.end, member.started, name))

    def leader_ended(self, event: events.LeaderEnded) -> bool:
        """Note how a command ended; False if the end of its member is not pending."""
        waiting = self._waiting.get((event.directory, event.leaf))
        if waiting is not None:
            self._conclude(event.directory, waiting, event.exit)
        return waiting is not None

    def report_due(self) -> None:
        """Report the ends whose deadline is over."""
        if self.stopping is None:
            return
        now = self._now()
        due = [key for key, each in self._waiting.items() if each.deadline <= now]
        waiting = [self._waiting[key] for key in due]
        owners = {each.owner for each in waiting if each.owner is not None and each.is_in_doubt}
        unexplained = [each for each in waiting if each.is_unexplained]
        for ending in waiting:
            ending.asked = True
        if owners or unexplained:
            self._doubt(owners, bool(unexplained))
        if self.stopping is not None:
            self._report(due)
            self.states.clear()

    def report_all(self) -> None:
        """Report all ends with what is known by now."""
        self._report(list(self._waiting))

    def unexplained(self) -> dict[Key, End]:
        """Return the ends that the history may explain."""
        return {key: ending.end for key, ending in self._unexplained.items()}

    def explain(self, key: Key, cause: Cause | None) -> None:
        """Report an unexplained end with the cause found in the history."""
        ending = self._unexplained.pop(key, None)
        if ending is not None:
            ending.cause = cause
            self._end(ending)

    def _report(self, keys: list[Key]) -> None:
        reader = Reader(self._mount)
        for key in keys:
            ending = self._waiting.pop(key)
            ending.look_again(reader, self.states, self.killed)
            self._end_or_ask(key, ending)

    def _conclude(self, directory: str, ending: Ending, exit_: Exit) -> None:
        """Report an end whose exit is known, unless something may yet explain it."""
        ending.exit = exit_
        if ending.is_in_doubt:
            is_ended = end_reason.was_ended(exit_)
            seconds = _OWNER_SECONDS if is_ended else _FOLLOW_SECONDS
            ending.deadline = self._now() + (0 if ending.is_proved else seconds)
        elif ending.cause is None and end_reason.was_ended(exit_):
            ending.deadline = self._now() + _STOPPER_SECONDS
        else:
            del self._waiting[directory, ending.end.leaf]
            self._end(ending)

    def _end_or_ask(self, key: Key, ending: Ending) -> None:
        was_killed = ending.of.was_killed_for_memory(ending.end.leaf)
        if ending.cause is None and not was_killed and end_reason.was_ended(ending.exit):
            self._unexplained[key] = ending
            self._ask()
        else:
            self._end(ending)

    def _end(self, ending: Ending) -> None:
        exit_, kills = ending.exit, ending.of.take_kills(ending.end.leaf)
        if not kills and ending.cause is None and exit_ and exit_.signal == signal.SIGKILL:
            kills = ending.of.take_kill()
        stopping = self.stopping or Stopping.NOTHING
        by_oomd = ending.of.take_oomd(ending.end.leaf)
        around = dataclasses.replace(ending.around, stopping=stopping, by_oomd=by_oomd)
        ended = ending.end if ending.cause is None else ending.counted(self._notes)
        end = end_reason.explain(ended, exit_, ending.cause, kills, around)
        self._report_end(end if ending.cause else observe.with_claim(end, ending.claim))


class _Ends(UserDict[Key, Ending]):
    """Ends by scope and leaf, in their order; finds those of one scope without the others."""

    def __init__(self) -> None:
        self._by_scope: dict[str, dict[str, None]] = {}
        super().__init__()

    def leaves(self, directory: str) -> Collection[str]:
        """Return the leaves of a scope."""
        return self._by_scope.get(directory, ())

    def __setitem__(self, key: Key, ending: Ending) -> None:
        super().__setitem__(key, ending)
        directory, leaf = key
        self._by_scope.setdefault(directory, {})[leaf] = None

    def __delitem__(self, key: Key) -> None:
        super().__delitem__(key)
        directory, leaf = key
        del self._by_scope[directory][leaf]
        if not self._by_scope[directory]:
            del self._by_scope[directory]
