"""Follows every scope of one uid, and does at once what ``reconcile`` would do later.

It keeps nothing that cannot be read again: killed at any moment, the next one reads the scopes and
goes on. What should be done is decided by the same ``plan``, and done by the same ``apply``.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING

from scopekeeper import escaped, history
from scopekeeper.errors import ScopekeeperError
from scopekeeper.keeper import ends, events, notices
from scopekeeper.keeper.known import Ending, Known
from scopekeeper.keeper.watch import Watch
from scopekeeper.launch.place import Caller
from scopekeeper.launch.rules import sign
from scopekeeper.model import Owner, Scope, Snapshot
from scopekeeper.owned.release import release_due
from scopekeeper.plan import Action, Step, Verdict, plan
from scopekeeper.policy.load import load
from scopekeeper.policy.rules import Policy
from scopekeeper.reconcile import apply
from scopekeeper.snapshot import Reader

if TYPE_CHECKING:
    from scopekeeper.history import End
    from scopekeeper.keeper.exits import Exit

_log = logging.getLogger("scopekeeper")

_EXIT_SECONDS = 6.0
"""How long the end of a member waits for how its command ended: a little longer than the watch
waits for a parent to reap it."""
_OWNER_SECONDS = 3.0
"""How long it waits for its owner's, where systemd ends both together."""
_SETTLE_SECONDS = 3.0
"""How long an empty scope may be one that is being made, or that systemd removes by itself."""
_EXEC_SECONDS = 1.0
"""After which it is looked again at what came."""
_BLIND_SECONDS = 30.0
_HUNT_SECONDS = 2.0
"""How long after an end it is looked for processes that had left; some are just about to end."""
_WRITE_SECONDS, _REWRITE_SECONDS = 0.2, 5.0
_MOST_UNWRITTEN = 10_000
"""Ends that are kept in memory while the history cannot be written; the oldest go first."""
_LONGEST_SLEEP = 3600.0
"""Timers stand still while the machine sleeps; deadlines do not."""


class Keeper:
    """The keeper of one uid, in one event loop.

    tell is called for everything that happens. With watch_only nothing is done about it.
    """

    def __init__(
        self,
        caller: Caller,
        tell: notices.Tell,
        *,
        watch_only: bool = False,
        linger: float | None = None,
    ) -> None:
        """Watch nothing yet; raises LimitError, PolicyError.

        linger: seconds for which it stays where nothing is left to keep; None for ever.
        """
        self._loop = asyncio.get_running_loop()
        self._tell = tell
        self._watch_only = watch_only
        self._linger = linger
        self._mount, self._uid = caller.mount, caller.uid
        self._signature, self.policy = sign(), load()
        self._watch = Watch(self._loop, caller, self._happened)
        self._known: dict[str, Known] = {}
        self._dirty: set[str] = set()
        self._looking: asyncio.Handle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._due: dict[str, float] = {}
        """By scope, when to look again; by the loop's clock."""
        self._acting: set[str] = set()
        self._endings: dict[tuple[str, str], Ending] = {}
        self._unwritten: list[End] = []
        self._write_problem = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._told_orphans: set[tuple[str, str]] = set()
        self._release_at: float | None = None
        self._hunt_at: float | None = None
        self._told_escaped: set[tuple[int, str]] = set()
        self._leave_at: float | None = None
        self._closed = False
        self.finished = asyncio.Event()
        """Set when there has been nothing to keep for a while."""

    # What is seen

    def start(self) -> None:
        """Begin; every scope that is there is told as started."""
        self._watch.start()
        self._want_release()
        self._soon()

    async def close(self) -> None:
        """Finish what was begun, and watch nothing any more."""
        self._closed = True
        self._watch.close()
        for handle in (self._looking, self._alarm):
            if handle is not None:
                handle.cancel()
        self._end_all(list(self._endings))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._unwritten:
            await self._write()

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes as they were last seen."""
        found = (known.scope for known in self._known.values())
        return tuple(sorted(found, key=lambda s: (s.session, s.lane, s.run, s.cgroup)))

    def reload(self) -> None:
        """Read the policy again; one that cannot be meant changes nothing."""
        self._signature = sign()
        try:
            self.policy = load()
        except ScopekeeperError as error:
            _log.error("%s; the rules before it stay in force", error)
            return
        self.look_at_all()

    def look_at_all(self) -> None:
        """Look at every scope afresh."""
        self._dirty |= self._known.keys()
        self._soon()

    def _happened(self, event: events.Event) -> None:
        if isinstance(event, events.OwnerChanged):
            self._dirty |= set(self._scopes_of(event.owner))
        elif isinstance(event, events.Overflow):
            _log.warning("the kernel dropped events; all scopes are read afresh")
            self._dirty |= self._known.keys() | set(self._watch.scopes)
        elif isinstance(event, events.Blind):
            _log.warning("%s; it is looked at every %.0f s", event.problem, _BLIND_SECONDS)
            self._due[event.directory] = self._loop.time() + _BLIND_SECONDS
        else:
            self._dirty.add(event.directory)
            if isinstance(event, events.LeaderEnded):
                self._leader_ended(event)
            elif isinstance(event, events.ScopeChanged):
                self._note_kills(event)
        self._soon()

    def _scopes_of(self, owner: Owner) -> Iterable[str]:
        for directory, known in self._known.items():
            states = (member.owner_state for member in known.scope.members)
            if any(state is not None and state.owner == owner for state in states):
                yield directory

    def _leader_ended(self, event: events.LeaderEnded) -> None:
        waiting = self._endings.get((event.directory, event.leaf))
        if waiting is not None:
            self._conclude(event.directory, waiting, event.exit)
        elif event.directory in self._known:
            self._known[event.directory].exits[event.leaf] = event.exit

    def _note_kills(self, event: events.ScopeChanged) -> None:
        known = self._known.get(event.directory)
        for change in event.changes:
            if known is not None and change.what is events.What.OOM_KILL:
                known.oom_kills[change.leaf] = known.oom_kills.get(change.leaf, 0) + 1

    def _soon(self) -> None:
        if self._looking is None:
            self._looking = self._loop.call_soon(self._look)

    # What is made of it

    def _look(self) -> None:
        self._looking = None
        directories, self._dirty = self._dirty, set()
        if self._signature != sign():
            self.reload()
        reader = Reader(self._mount, activity=self.policy.counts_idle)
        for directory in directories:
            try:
                self._take_in(directory, reader)
            except OSError as error:
                self._look_later(directory, f"{error.filename or directory}: {error.strerror}")
        if not self._watch_only:
            self._decide(directories, reader.now)
            self._release()
            if self._hunt_at is not None and self._hunt_at <= self._loop.time():
                self._hunt_at = None
                self._begin(self._hunt)
        self._set_alarm()

    def _take_in(self, directory: str, reader: Reader) -> None:
        self._due.pop(directory, None)
        scope = reader.scope(directory, self._uid)
        known = self._known.get(directory)
        if scope is None or (known is not None and known.scope.created != scope.created):
            if known is not None:
                self._gone(directory, known, reader)
            known = None
        if scope is None:
            return
        if known is None:
            if scope.unrecorded:
                self._due[directory] = self._loop.time() + _SETTLE_SECONDS
                return  # its launch is about to write the record, which is told
            known = self._known[directory] = Known(scope)
            self._tell(notices.ScopeStarted(scope))
        came, ended = known.look(scope, reader)
        self._watch.follow(scope)
        for member in came:
            self._tell(notices.MemberStarted(scope, member))
        if known.fresh:
            self._due[directory] = self._loop.time() + _EXEC_SECONDS
        self._await_exits(directory, known, ended)

    def _gone(self, directory: str, known: Known, reader: Reader) -> None:
        self._await_exits(directory, known, known.gone(reader))
        del self._known[directory]
        self._told_orphans = {each for each in self._told_orphans if each[0] != directory}
        self._tell(notices.ScopeEnded(known.scope))
        self._want_release()

    def _await_exits(self, directory: str, known: Known, ended: list[Ending]) -> None:
        for ending in ended:
            leaf = ending.end.leaf
            ending.told_by = self._loop.time() + _EXIT_SECONDS
            self._endings[directory, leaf] = ending
            if leaf in known.exits:
                self._conclude(directory, ending, known.exits.pop(leaf))

    def _conclude(self, directory: str, ending: Ending, exit_: "Exit") -> None:
        """Tell of an end whose command's is known, unless its owner's may yet explain it."""
        ending.exit = exit_
        if ending.is_in_doubt:
            ending.told_by = self._loop.time() + _OWNER_SECONDS
        else:
            del self._endings[directory, ending.end.leaf]
            self._end(ending)

    def _end(self, ending: Ending) -> None:
        exit_, kills = ending.exit, ending.oom_kills
        if not kills and ending.cause is None and exit_ and exit_.signal == signal.SIGKILL:
            kills = ending.of.take_kill()
        end = ends.tell(ending.end, exit_, ending.cause, kills, ending.around)
        self._tell(notices.MemberEnded(end))
        self._want_release()
        if not self._watch_only:
            self._hunt_at = self._hunt_at or self._loop.time() + _HUNT_SECONDS
            self._unwritten.append(end)
            if len(self._unwritten) == 1:
                self._loop.call_later(_WRITE_SECONDS, self._begin, self._write)

    def _end_all(self, keys: list[tuple[str, str]]) -> None:
        """Tell of ends of which no more is waited for."""
        reader = Reader(self._mount)
        for key in keys:
            ending = self._endings.pop(key)
            ending.look_again(reader)
            self._end(ending)

    async def _write(self) -> None:
        """Write the history; what cannot be written now is kept, and tried again."""
        written, self._unwritten = self._unwritten, []
        news, problem = await asyncio.to_thread(history.keep, written)
        if not problem:
            self._write_problem = ""
            await asyncio.to_thread(history.tell, news)
            return
        if problem != self._write_problem:
            _log.error("%s; tried again every %.0f s", problem, _REWRITE_SECONDS)
        self._unwritten = (written + self._unwritten)[-_MOST_UNWRITTEN:]
        if not self._closed:
            self._loop.call_later(_REWRITE_SECONDS, self._begin, self._write)
        self._write_problem = problem

    # What is done about it

    def _decide(self, directories: set[str], now: int) -> None:
        """Plan for some scopes, beside the others of their sessions."""
        sessions = {self._known[d].scope.session for d in directories if d in self._known}
        scopes = (known.scope for known in self._known.values())
        snapshot = Snapshot(tuple(s for s in scopes if s.session in sessions), now)
        doing = []
        for action in plan(snapshot, self.policy):
            directory = action.scope.directory
            if directory not in directories or directory in self._acting:
                continue
            self._tell_orphan(action)
            self._note_deadline(action, now)
            if action.step is Step.STOP or action.mark is not None or self._may_remove(action):
                doing.append(action)
        if doing:
            self._acting |= {action.scope.directory for action in doing}
            self._begin(self._act, doing, snapshot, self.policy)

    def _tell_orphan(self, action: Action) -> None:
        if action.verdict is not Verdict.ORPHAN:
            return
        members = action.scope.living_members if action.member is None else (action.member,)
        for member in members:
            if (action.scope.directory, member.leaf) not in self._told_orphans:
                self._told_orphans.add((action.scope.directory, member.leaf))
                self._tell(notices.OrphanFound(action.scope, member, action.evidence))

    def _note_deadline(self, action: Action, now: int) -> None:
        scope = action.scope
        moments = [] if action.due is None else [action.due]
        if scope.ttl is not None and not scope.manager and scope.lifetime != "detached":
            moments.append(now + round(scope.ttl - scope.age * 1e6))
        if action.verdict is Verdict.EMPTY and not self._may_remove(action):
            moments.append(now + round(_SETTLE_SECONDS * 1e6))
        for moment in moments:
            at = self._loop.time() + max(0.0, (moment - now) / 1e6)
            self._due[scope.directory] = min(at, self._due.get(scope.directory, at))

    def _may_remove(self, action: Action) -> bool:
        """Tell whether something empty is left over, and not on its way in or out."""
        if action.step is not Step.REMOVE or self._is_ending(action):
            return False
        started = action.scope.created
        if action.member is not None:
            started = action.member.started
        return time.time_ns() // 1000 - started > _SETTLE_SECONDS * 1e6

    def _is_ending(self, action: Action) -> bool:
        """Tell whether it is not told yet how something in it ended."""
        leaves = [leaf for directory, leaf in self._endings if directory == action.scope.directory]
        return bool(leaves) if action.member is None else action.member.leaf in leaves

    async def _act(self, doing: list[Action], snapshot: Snapshot, policy: Policy) -> None:
        directories = {action.scope.directory for action in doing}
        reader = Reader(self._mount, activity=policy.counts_idle)
        warnings: list[str] = []
        failed: dict[str, str] = {}
        try:
            for done in await asyncio.to_thread(apply, doing, policy, reader, snapshot, warnings):
                if done.outcome in ("refused", "remains"):
                    problem = done.result.problem if done.result else ""
                    failed[done.action.scope.directory] = problem or "it cannot be killed"
        except (OSError, ScopekeeperError) as error:
            failed = dict.fromkeys(directories, str(error))
        finally:
            self._acting -= directories
        for text in warnings:
            _log.warning("%s", text)
        for directory, problem in failed.items():
            self._look_later(directory, f"{directory}: {problem}")
        self._dirty |= directories - failed.keys()
        self._soon()

    def _look_later(self, directory: str, problem: str) -> None:
        _log.error("%s; it is looked at again in %.0f s", problem, _BLIND_SECONDS)
        self._due[directory] = self._loop.time() + _BLIND_SECONDS

    def _want_release(self) -> None:
        if not self._watch_only:
            self._release_at = self._loop.time()

    def _release(self) -> None:
        """Remove owned paths whose last user may have gone."""
        if self._release_at is not None and self._release_at <= self._loop.time():
            self._release_at = None
            self._begin(self._release_now)

    async def _release_now(self) -> None:
        report = await asyncio.to_thread(release_due, self._mount)
        for outcome in report.done:
            text = f"{outcome.what}: {outcome.claim.path}: {outcome.evidence}"
            _log.info("%s%s", text, f"; {outcome.problem}" if outcome.problem else "")
        if report.problem:
            _log.error("%s", report.problem)
        if report.try_again is not None:
            self._release_at = self._loop.time() + report.try_again
            self._set_alarm()

    async def _hunt(self) -> None:
        """Look for what left its scope before its member ended, and do what the policy says."""
        snapshot = Snapshot(self.scopes)
        found = await asyncio.to_thread(escaped.find, snapshot, self._uid)
        for each in found:
            if (each.pid, each.start_time) not in self._told_escaped:
                _log.warning("%s of %s: %s", each.command, each.session, each.evidence)
        self._told_escaped = {(each.pid, each.start_time) for each in found}
        doomed = [each for each in found if escaped.may_be_ended(each)]
        if doomed and self.policy.stops_escaped:
            outcomes = await asyncio.to_thread(escaped.end, doomed, snapshot, self._uid)
            for pid, outcome in outcomes.items():
                _log.info("process %d: %s", pid, outcome)

    def _begin(self, job: Callable[..., Coroutine[None, None, None]], *arguments: object) -> None:
        task = self._loop.create_task(job(*arguments))
        self._tasks.add(task)

        def done(task: "asyncio.Task[None]") -> None:
            self._tasks.discard(task)
            if not task.cancelled() and task.exception() is not None:
                _log.error("internal error", exc_info=task.exception())
            if not self._closed:
                self._set_alarm()

        task.add_done_callback(done)

    # When to look again

    def _set_alarm(self) -> None:
        now = self._loop.time()
        moments = [*self._due.values(), *(each.told_by for each in self._endings.values())]
        moments += [at for at in (self._release_at, self._hunt_at) if at is not None]
        busy = self._known or self._endings or self._tasks or self._release_at or self._hunt_at
        if busy or self._linger is None:
            self._leave_at = None
        else:
            self._leave_at = now + self._linger if self._leave_at is None else self._leave_at
            moments.append(self._leave_at)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if moments:
            delay = min(max(min(moments) - now, 0.0), _LONGEST_SLEEP)
            self._alarm = self._loop.call_later(delay, self._wake)

    def _wake(self) -> None:
        now = self._loop.time()
        self._alarm = None
        self._end_all([key for key, each in self._endings.items() if each.told_by <= now])
        due = {directory for directory, at in self._due.items() if at <= now}
        if "" in due:  # something cannot be watched, nobody knows what
            self._watch.rescan()
            self._due[""] = now + _BLIND_SECONDS
            due |= self._known.keys()
        self._dirty |= due - {""}
        if self._leave_at is not None and self._leave_at <= now:
            self.finished.set()
        self._look()
