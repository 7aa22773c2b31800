"""Follows every scope of one uid and reports what happens; acts on nothing."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Collection, Iterable

from scopekeeper.errors import words
from scopekeeper.history.end import End
from scopekeeper.keeper import events, notices
from scopekeeper.keeper.faults import Faults
from scopekeeper.keeper.history_thread import HistoryThread
from scopekeeper.keeper.pending_ends import PendingEnds
from scopekeeper.keeper.processes import Processes
from scopekeeper.keeper.scope_tracker import TrackedScope
from scopekeeper.keeper.watch import Watch
from scopekeeper.lifecycle import unseen_ends
from scopekeeper.scope import names
from scopekeeper.scope.model import Member, Owner, Scope
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd.shutdown import Stopping, UnitState, unit_state, what_stops
from scopekeeper.systemd.units import manager_uid

_log = logging.getLogger("scopekeeper")

_RECORD_SECONDS = 3.0
"""How long a launch may take to write the record of a new scope."""
_EXEC_SECONDS = 1.0
"""When to look again at a scope with a new member."""
BLIND_SECONDS = 30.0
"""When to look again at what cannot be watched, or at what failed."""
_LONGEST_SLEEP = 3600.0
"""Timers stop while the machine is suspended; deadlines do not."""


def _nothing(_directories: set[str], _now: int) -> None:
    pass


class Tracker:
    """The scopes of one uid, from one look to the next.

    report is called with every notice; looked after each look, with the directories looked at and
    the time of the look in microseconds of CLOCK_BOOTTIME.
    """

    def __init__(
        self,
        caller: Caller,
        report: notices.Tell,
        looked: Callable[[set[str], int], None] = _nothing,
    ) -> None:
        """Watch nothing yet; raises LimitError."""
        self.loop = asyncio.get_running_loop()
        self._report = report
        self._looked = looked
        self._mount, self._uid = caller.mount, caller.uid
        self.faults = Faults()
        self._watch = Watch(self.loop, caller, self._happened)
        self._pending = PendingEnds(
            caller.mount, self.loop.time, self._ended, self._doubt, self._ask_why
        )
        self.history = HistoryThread(self.loop)
        self._explaining: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[Stopping]] = set()
        self._stopping = Stopping.NOTHING
        self.tracked: dict[str, TrackedScope] = {}
        """By directory."""
        self._by_session: dict[str, set[str]] = {}
        self._unrecorded: dict[str, tuple[int, float]] = {}
        """By directory: its inode, and when it was first seen without a record."""
        self.activity = False
        """Whether a look also reads how busy members are."""
        self._dirty: set[str] = set()
        self._looking: asyncio.Handle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._due: dict[str, float] = {}
        """When to look again at a scope, by the loop's clock."""

    @property
    def processes(self) -> Processes:
        """The processes that are watched."""
        return self._watch.processes

    def reader(self, *, activity: bool) -> Reader:
        """Return a reader that knows as much of the members' sockets as is known here."""
        sockets = self._watch.sockets
        return Reader(self._mount, activity=activity, unlock=True, sockets=lambda: sockets)

    def start(self) -> None:
        """Start; report every existing scope as started."""
        self._watch.start()
        self._soon()

    @property
    def watch(self) -> Watch:
        """What watches the scopes, and whatever else is to be watched."""
        return self._watch

    @property
    def watched(self) -> set[str]:
        """The ids of the members that live, or whose end is not reported yet."""
        leaves = [leaf for scope in self.tracked.values() for leaf in scope.ends]
        return {leaf.rpartition(".")[2] for leaf in (*leaves, *self._pending.all_leaves)}

    async def close(self) -> None:
        """Stop watching; report what has ended."""
        self._watch.close()
        for task in self._asking:
            task.cancel()
        for handle in (self._looking, self._alarm):
            if handle is not None:
                handle.cancel()
        self._pending.report_all()
        if self._explaining is not None:
            await self._explaining

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes as last seen."""
        found = (each.scope for each in self.tracked.values())
        return tuple(sorted(found, key=lambda s: (s.session, s.lane, s.run, s.cgroup)))

    def beside(self, directories: Iterable[str]) -> dict[str, tuple[Scope, ...]]:
        """Return the scopes of the sessions of these, by session.

        By the name of the scope: of sessions whose names were cut, several can be one here.
        """
        sessions = {_session(each) for each in directories if each in self.tracked}
        return {
            session: tuple(self.tracked[each].scope for each in self._by_session[session])
            for session in sessions
        }

    @property
    def is_busy(self) -> bool:
        """Whether there is a scope with other processes than this one, or a pending end."""
        own = {os.getpid()}
        return bool(self._pending) or any(own != set(k.scope.pids) for k in self.tracked.values())

    async def ask_what_stops(self) -> Stopping:
        """Find out what is being stopped around us; meanwhile no deadline of an end counts."""
        task = self._begin_to_ask()
        await asyncio.wait((task,))
        return self._stopping

    def _begin_to_ask(
        self, owners: Collection[Owner] = (), *, every: bool = True
    ) -> "asyncio.Task[Stopping]":
        self._pending.stopping = None
        task = self.loop.create_task(self._find_what_stops(owners, every=every))
        self._asking.add(task)
        task.add_done_callback(self._answered)
        return task

    def _answered(self, task: "asyncio.Task[Stopping]") -> None:
        self._asking.discard(task)
        if not task.cancelled() and task.result() is not Stopping.NOTHING:
            self._stopping = task.result()  # a shutdown is not undone
        if not self._asking:
            self._pending.stopping = self._stopping
            self._soon()

    def how_killed(self, owner: Owner) -> str:
        """Return how a life of a service was killed; '' if it was not, or that is unknown."""
        return self._pending.killed.get(owner, "")

    async def service_state(self, owner: Owner) -> UnitState | None:
        """Return what systemd reports of a life of a service, and note how it was killed.

        Of a process, it is the service in which that runs.
        """
        unit = owner.unit or owner.outer_unit
        uid = manager_uid(owner.cgroup if owner.unit else owner.outer_cgroup)
        if not unit or uid not in ("", str(self._uid)):
            return None
        state = await unit_state(unit, owner.epoch, of_user=bool(uid))
        if state is not None:
            self._pending.note_killed(owner, state)
        return state

    async def _find_what_stops(self, owners: Collection[Owner], *, every: bool) -> Stopping:
        """Ask systemd about services, and with every about the manager and the machine."""
        for owner in owners:
            state = await self.service_state(owner)
            if state is not None:
                self._pending.states[owner] = state
        return await what_stops(self._uid) if every else self._stopping

    def _doubt(self, owners: Collection[Owner], every: bool) -> None:
        every = every and self._stopping is Stopping.NOTHING
        if owners or every:
            self._begin_to_ask(owners, every=every)

    def _ask_why(self) -> None:
        if self._explaining is None:
            self._explaining = self.loop.create_task(self._explain())

    async def _explain(self) -> None:
        """Ask the history about all unexplained ends together."""
        try:
            while asked := self._pending.unexplained():
                causes = await self.history.do(unseen_ends.causes_of, list(asked.values()))
                for key, cause in zip(asked, causes, strict=True):
                    self._pending.explain(key, cause)
        finally:
            self._explaining = None
        self._soon()

    def living(self, directory: str, leaf: str) -> End | None:
        """Return the End that a living member would have now; None if it has ended."""
        scope = self.tracked.get(directory)
        return scope.ends.get(leaf) if scope is not None else None

    def ending_leaves(self, directory: str) -> list[str]:
        """Return the leaves of a scope whose ends are not reported yet."""
        return self._pending.leaves(directory)

    def look_at(self, directories: Iterable[str]) -> None:
        """Look at scopes in the loop's next iteration."""
        self._dirty |= set(directories)
        self._soon()

    def look_at_all(self) -> None:
        """Look at every scope again."""
        self.look_at(self.tracked)

    def catch_up(self) -> None:
        """Look now at all that has changed; call it from the loop, not during a look.

        Events reach a look two rounds of the loop later. A caller that asks for what it has just
        launched relies on being answered with it.
        """
        self._watch.take_in()
        if self._looking is not None:
            self._looking.cancel()
            self._look()

    def look_in(self, directory: str, seconds: float) -> None:
        """Look at a scope again after this many seconds at the latest; call it during a look."""
        at = self.loop.time() + seconds
        self._due[directory] = min(at, self._due.get(directory, at))

    def look_later(self, directory: str, problem: str) -> None:
        """Look at a scope again when a problem may be over."""
        self.faults.log(f"{problem}; retrying in {BLIND_SECONDS:.0f} s")
        self._due[directory] = self.loop.time() + BLIND_SECONDS
        self._soon()

    def _happened(self, event: events.Event) -> None:
        if isinstance(event, events.OwnerChanged):
            self._dirty |= self._watch.followers(event.owner)
        elif isinstance(event, events.Overflow):
            _log.warning("the kernel dropped events; reading all scopes again")
            self._dirty |= self.tracked.keys() | set(self._watch.scopes)
        elif isinstance(event, events.Blind):
            self.faults.log(f"{event.problem}; checking every {BLIND_SECONDS:.0f} s instead")
            self._due[event.directory] = self.loop.time() + BLIND_SECONDS
        else:
            self._dirty.add(event.directory)
            if isinstance(event, events.LeaderEnded):
                if not self._pending.leader_ended(event) and event.directory in self.tracked:
                    self.tracked[event.directory].exits[event.leaf] = event.exit
            elif isinstance(event, events.ScopeChanged):
                self._note_kills(event)
        self._soon()

    def _note_kills(self, event: events.ScopeChanged) -> None:
        tracked = self.tracked.get(event.directory)
        for change in event.changes:
            if tracked is not None and change.what is events.What.OOM_KILL:
                tracked.note_kill(change.leaf)
            elif tracked is not None and change.what is events.What.OOMD_KILL:
                tracked.by_oomd.add(change.leaf)

    def _soon(self) -> None:
        if self._looking is None:
            self._looking = self.loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = None
        directories, self._dirty = self._dirty, set()
        reader = self.reader(activity=self.activity)
        for directory in directories:
            try:
                self._update(directory, reader)
            except Exception as error:  # noqa: BLE001  one scope must not hide the others
                self._due[directory] = self.loop.time() + BLIND_SECONDS
                again = f"checking every {BLIND_SECONDS:.0f} s"
                self.faults.log(f"{directory}: {words(error)}; {again}", error)
        with self.faults.contained("after a look"):
            self._looked(directories, reader.now)
        self._set_alarm()

    def _update(self, directory: str, reader: Reader) -> None:
        self._due.pop(directory, None)
        scope = reader.scope(directory, self._uid)
        tracked = self.tracked.get(directory)
        if scope is not None and scope.is_closed:
            raise PermissionError(errno.EACCES, scope.problem, directory)
        if scope is None or (tracked is not None and tracked.scope.inode != scope.inode):
            if tracked is not None:
                self._gone(directory, tracked, reader)
            tracked = None
        if scope is None or not scope.unrecorded:
            self._unrecorded.pop(directory, None)
        if scope is None:
            return
        if tracked is None:
            if scope.unrecorded and not self._is_leftover(scope):
                self._due[directory] = self.loop.time() + _RECORD_SECONDS
                return  # its launch is about to write the record, which sends an event
            tracked = self.tracked[directory] = TrackedScope(scope)
            self._report(notices.ScopeStarted(scope))
            self._by_session.setdefault(_session(directory), set()).add(directory)
        label = tracked.scope.label
        came, ended = tracked.look(scope, reader)
        if scope.label != label:
            self._report(notices.ScopeLabelled(scope))
        self._watch.follow(scope)
        for member in came:
            self._report(notices.MemberStarted(scope, member))
            self._went_on(scope, member)
        if tracked.fresh:
            self._due[directory] = self.loop.time() + _EXEC_SECONDS
        self._pending.add(directory, tracked, ended)

    def _went_on(self, scope: Scope, member: Member) -> None:
        """Report the end of a member whose process goes on as this one."""
        self._pending.went_on(scope, member)
        before = {key.partition("/")[0] for key in member.earlier}
        if before:  # it may be empty since a look at which this one was not there yet
            self.look_at(x for x in self.tracked if x.rpartition("/")[2] in before)

    def _is_leftover(self, scope: Scope) -> bool:
        """Return True if the launch of a scope was killed before it wrote the record."""
        now = self.loop.time()
        inode, since = self._unrecorded.setdefault(scope.directory, (scope.inode, now))
        if inode != scope.inode:
            self._unrecorded[scope.directory] = (scope.inode, now)
        return inode == scope.inode and scope.is_stillborn and now - since > _RECORD_SECONDS / 2

    def _gone(self, directory: str, tracked: TrackedScope, reader: Reader) -> None:
        self._pending.add(directory, tracked, tracked.gone(reader))
        del self.tracked[directory]
        session = _session(directory)
        self._by_session[session].discard(directory)
        if not self._by_session[session]:
            del self._by_session[session]
        self._report(notices.ScopeEnded(tracked.scope))

    def _ended(self, end: End) -> None:
        with self.faults.contained(f"the end of {end.name!r} in {end.unit}"):
            self._report(notices.MemberEnded(end))

    def _set_alarm(self) -> None:
        moments = [*self._due.values(), *self._pending.moments]
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if moments:
            delay = min(max(min(moments) - self.loop.time(), 0.0), _LONGEST_SLEEP)
            self._alarm = self.loop.call_later(delay, self._wake)

    def _wake(self) -> None:
        now = self.loop.time()
        self._alarm = None
        with self.faults.contained("ends that are due"):
            self._pending.report_due()
        due = {directory for directory, at in self._due.items() if at <= now}
        if "" in due:  # something unknown cannot be watched
            with self.faults.contained("a walk"):
                self._watch.rescan()
            self._due[""] = now + BLIND_SECONDS
            due |= self.tracked.keys()
        self._dirty |= due - {""}
        self._look()


def _session(directory: str) -> str:
    """Return the session in the name of a scope, as far as it was not cut."""
    return (names.parse_unit(directory.rpartition("/")[2]) or ("",))[0]
