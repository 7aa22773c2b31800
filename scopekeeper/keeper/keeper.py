"""Does at once what ``reconcile`` would do later, by the same ``plan`` and the same ``apply``.

It holds no state that cannot be read again: if it is killed, the next keeper reads the scopes and
continues.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence

from scopekeeper.errors import words
from scopekeeper.history import launch_ledger
from scopekeeper.keeper import notices
from scopekeeper.keeper.cleanup import Cleanup
from scopekeeper.keeper.condition import Condition
from scopekeeper.keeper.exec.runs import Runs
from scopekeeper.keeper.history_writer import HistoryWriter
from scopekeeper.keeper.jobs import Jobs, in_thread
from scopekeeper.keeper.orphan_reports import OrphanReports
from scopekeeper.keeper.owner_end import explained
from scopekeeper.keeper.policy_in_force import PolicyInForce
from scopekeeper.keeper.publisher import Publisher
from scopekeeper.keeper.returns import Returns
from scopekeeper.keeper.rewrap import Rewrap
from scopekeeper.keeper.stderr_files import StderrFiles
from scopekeeper.keeper.tracker import Tracker
from scopekeeper.keeper.unseen_ends import UnseenEnds
from scopekeeper.kernel.inotify import IN_CLOSE_WRITE, IN_DELETE, IN_MOVED_TO
from scopekeeper.kernel.proc import boot_id, boottime
from scopekeeper.launch.leave_scope import step_aside
from scopekeeper.lifecycle import stop, stop_launched, stop_target
from scopekeeper.lifecycle.observe import stopper
from scopekeeper.lifecycle.plan import Action, Step, Verdict, plan
from scopekeeper.lifecycle.reconcile import apply
from scopekeeper.lifecycle.stop_launched import Part
from scopekeeper.policy.rules import DEFAULT, Policy
from scopekeeper.scope.launched import Named
from scopekeeper.scope.model import Scope, Snapshot
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.reason import Cause
from scopekeeper.scope.selection import Selected
from scopekeeper.systemd.fdstore import DescriptorStore
from scopekeeper.systemd.shutdown import Stopping

_log = logging.getLogger("scopekeeper")

_SETTLE_SECONDS = 3.0
"""Until then an empty scope may be one that is being created, or that systemd is removing."""
_FAREWELL_SECONDS = 4.0
"""Longer than a pending end waits for the end of its owner."""
_STOPPER_SECONDS = 1.0
"""When to check again whether another process still carries out the stop that it began."""
_PAUSE = 0.02
_FINISH_SECONDS = 7.0
"""How long running jobs may take when the keeper exits; the next one finishes the rest."""
_BY_RULE = (
    Verdict.ORPHAN, Verdict.SUPERSEDED, Verdict.IDLE, Verdict.ABANDONED, Verdict.LEADERLESS,
)  # fmt: skip
"""Verdicts that depend on the policy; without a valid policy nothing is done about them."""


class Keeper:
    """The keeper of one uid, in one event loop; report is called with every notice."""

    def __init__(
        self,
        caller: Caller,
        report: notices.Tell,
        *,
        linger: float | None = None,
        store: DescriptorStore | None = None,
    ) -> None:
        """Watch nothing yet; raises LimitError, UnavailableError.

        linger: seconds to stay when nothing is left to keep; None means forever. store: keeps the
        descriptors of runs for the next keeper.
        """
        self._linger = linger
        self._asker = stopper(os.getpid())
        """Of stops that nobody asked for: the keeper itself, not the systemd that started it."""
        boot_id()  # without it nothing can be proved of any owner
        self._rules = PolicyInForce()
        self._tracker = Tracker(caller, self._happened, self._looked)
        self._tracker.activity = self.policy.counts_idle
        self._loop = self._tracker.loop
        self._jobs = Jobs(self._loop, self._consider_leaving)
        self._publish = Publisher(
            self._jobs, self._tracker.faults, report, lambda: self.policy, lambda: self.scopes
        )
        self._writer = HistoryWriter(self._jobs, self._tracker.living, self._tracker.history)
        self._cleanup = Cleanup(
            self._jobs,
            caller.mount,
            caller.uid,
            lambda: Snapshot(self.scopes),
            lambda: self.policy,
            self._writer.ended,
            self._publish,
        )
        self._returns = Returns(
            self._jobs, self._tracker.watch, caller, self.scopes_now, lambda: self.policy
        )
        self._unseen_ends = UnseenEnds(
            self._jobs, caller.mount, lambda: self._tracker.watched, self._cleanup.release
        )
        self._stderr_files = StderrFiles(self._jobs, self._tracker.watch.watch_folder)
        self._rewrap = Rewrap(
            self._jobs,
            self._tracker.watch.watch_folder,
            lambda: self.policy.rules(DEFAULT).rewrap,
        )
        self.runs = Runs(
            self._tracker.processes,
            DescriptorStore(0) if store is None else store,
            self._happened,
            lambda directory, cause: self._jobs.begin(self._end, directory, cause),
            self._consider_leaving,
            self._jobs,
            self._tracker.history,
        )
        self.condition = Condition(self._rules, self._tracker, self._writer, self.runs)
        self._acting: set[str] = set()
        self._orphans = OrphanReports(self._publish)
        self._has_looked = False
        self._leaving: asyncio.TimerHandle | None = None
        self.finished = asyncio.Event()
        """Set when there has been nothing to keep for a while."""
        self.look_at_all = self._tracker.look_at_all

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._rules.policy

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes as last seen."""
        return self._tracker.scopes

    def scopes_now(self) -> tuple[Scope, ...]:
        """Return the scopes with all that has happened until now."""
        self._tracker.catch_up()
        return self._tracker.scopes

    def start(self) -> None:
        """Start; report every existing scope as started."""
        self._tracker.start()
        for folder in self._rules.folders():
            # a launch or an end may be far away, and what was written is meant from now on
            self._tracker.watch.watch_folder(
                folder,
                IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE,
                lambda _: self._reload_if_changed(),
            )
        self._rewrap.follow()
        self._jobs.begin(self._stderr_files.find)
        self._publish.start()
        self._tracker.watch.watch_file(launch_ledger.path(), self._unseen_ends.launched)
        self._unseen_ends.launched()  # what came and went before
        self._cleanup.release()

    async def see_off(self) -> None:
        """Wait briefly for the ends of what is being stopped together with the keeper."""
        stopping = await self._tracker.ask_what_stops()
        until = self._loop.time() + _FAREWELL_SECONDS
        while stopping is not Stopping.NOTHING and self._tracker.is_busy:
            if self._loop.time() >= until:
                return  # the next keeper notices that they are gone
            await asyncio.sleep(_PAUSE)

    async def close(self) -> None:
        """Stop watching, and finish what was begun as far as time allows."""
        self.runs.close()
        await self._tracker.close()
        self._cleanup.cancel()
        self._publish.close()
        await self._jobs.finish(_FINISH_SECONDS)
        await self._writer.finish()
        await self._unseen_ends.look()

    def reload(self) -> None:
        """Read the policy again; an invalid one changes nothing."""
        if self._rules.read():
            self._tracker.activity = self.policy.counts_idle
            self._tracker.look_at_all()
            self._rewrap.follow()
            self._publish.changed()

    def _reload_if_changed(self) -> None:
        if self._rules.has_changed():
            self.reload()

    # What happened

    def _happened(self, notice: notices.Notice) -> None:
        notice = self.runs.completed(notice)
        for take_in in (self._publish, self.runs.take_in, self._note):
            with self._tracker.faults.contained(type(notice).__name__):
                take_in(notice)

    def _note(self, notice: notices.Notice) -> None:
        if isinstance(notice, notices.ScopeLabelled):
            for member in notice.scope.living_members:
                self._writer.began(notice.scope.directory, member.leaf)
        elif isinstance(notice, notices.MemberStarted):
            self._writer.began(notice.scope.directory, notice.member.leaf)
            self._returns.take_in(notice)
            self._stderr_files.started()
        elif isinstance(notice, notices.MemberEnded):
            self._writer.ended(notice.end)
            self._unseen_ends.note(notice.end)
            self._stderr_files.ended()
            self._cleanup.release()
            self._cleanup.hunt()
        elif isinstance(notice, notices.ScopeEnded):
            self._orphans.forget(notice.scope.directory)
            self._cleanup.release()

    # What to do about it

    def _looked(self, directories: set[str], now: int) -> None:
        self._reload_if_changed()
        self._decide(directories, now)
        if not self._has_looked:
            self._has_looked = True
            leaves = {leaf for scope in self._tracker.tracked.values() for leaf in scope.ends}
            self._jobs.begin(self._writer.catch_up, leaves)
        self._publish.changed()
        self._consider_leaving()

    def _decide(self, directories: set[str], now: int) -> None:
        """Plan for these scopes, session by session, together with the other scopes of each."""
        by_session = self._tracker.beside(directories)
        doing: list[Action] = []
        for session, scopes in by_session.items():
            with self._tracker.faults.contained(f"the plan for {session!r}"):
                doing += self._due(Snapshot(scopes, now), directories)
        if doing:
            self._acting |= {action.scope.directory for action in doing}
            involved = tuple(scope for scopes in by_session.values() for scope in scopes)
            snapshot = Snapshot(involved, now)
            self._jobs.begin(self._act, doing, snapshot, self.policy)

    def _due(self, snapshot: Snapshot, directories: set[str]) -> list[Action]:
        """Return the actions due now in these scopes; schedule a look at the others."""
        due = []
        for action in plan(snapshot, self.policy):
            directory = action.scope.directory
            if directory not in directories or directory in self._acting:
                continue
            if action.verdict in _BY_RULE and not self._rules.was_read:
                continue
            self._orphans.note(action)
            self._note_deadline(action, snapshot.now)
            if action.step is Step.STOP or action.mark is not None or self._may_remove(action):
                due.append(action)
        return due

    def _note_deadline(self, action: Action, now: int) -> None:
        scope = action.scope
        moments = [] if action.due is None else [action.due]
        if scope.ttl is not None and not scope.manager:  # else systemd ends it
            moments.append(now + round(scope.ttl - scope.age * 1e6))
        if action.verdict is Verdict.EMPTY and not self._may_remove(action):
            moments.append(now + round(_SETTLE_SECONDS * 1e6))
        if action.verdict is Verdict.STOPPING:
            moments.append(now + round(_STOPPER_SECONDS * 1e6))  # no event marks its end
        for moment in moments:
            self._tracker.look_in(scope.directory, max(0.0, (moment - now) / 1e6))

    def _may_remove(self, action: Action) -> bool:
        """Return True if something empty is a leftover, not being created or removed."""
        if action.step is not Step.REMOVE or self._is_ending(action):
            return False
        now = boottime()
        return now - (action.member or action.scope).born > _SETTLE_SECONDS * 1e6

    def _is_ending(self, action: Action) -> bool:
        """Return True if an end in it is still pending."""
        leaves = self._tracker.ending_leaves(action.scope.directory)
        return bool(leaves) if action.member is None else action.member.leaf in leaves

    async def _act(self, doing: list[Action], snapshot: Snapshot, policy: Policy) -> None:
        directories = {action.scope.directory for action in doing}
        reader = self._tracker.reader(activity=policy.counts_idle)
        failed: dict[str, str] = {}
        watched = self.watched(directories)
        try:
            with self._acting_on(directories) as warnings:
                ask, killed = self._tracker.service_state, self._tracker.how_killed
                doing = await explained(doing, ask, killed)
                for done in await in_thread(
                    apply, doing, policy, reader, snapshot, warnings, watched,
                    step_out=step_aside, asker=self._asker,
                ):  # fmt: skip
                    if done.outcome in ("refused", "remains"):
                        problem = done.result.problem if done.result else ""
                        failed[done.action.scope.directory] = problem or "it cannot be killed"
        except Exception as error:  # noqa: BLE001  retried later, like any failed stop
            self._tracker.faults.log(f"a stop: {words(error)}", error)
            failed = dict.fromkeys(directories, words(error))
        for directory, problem in failed.items():
            self._tracker.look_later(directory, f"{directory}: {problem}")
        self._tracker.look_at(directories - failed.keys())

    async def stop_selected(
        self, selected: Sequence[Selected], cause: Cause
    ) -> list[stop_target.Result]:
        """Stop what is selected; meanwhile plan nothing else for it."""
        directories = {each.scope.directory for each in selected}
        with self._acting_on(directories) as warnings:
            return await in_thread(
                stop.stop,
                [stop_target.target_of(each) for each in selected],
                causes=[cause] * len(selected),
                warnings=warnings,
                watched=self.watched(directories),
                step_out=step_aside,
                asker=self._asker,
            )

    async def stop_named(
        self, named: Named, snapshot: Snapshot, cause: Cause
    ) -> list[tuple[Part, stop_target.Result]]:
        """Stop what is named, and what was launched from that."""
        parts = stop_launched.parts(named, snapshot)
        reader = self._tracker.reader(activity=False)
        with self._acting_on({each.selected.scope.directory for each in parts}) as warnings:
            return await in_thread(
                stop_launched.stop_all,
                named,
                parts,
                lambda: reader.again().snapshot(uid=os.getuid()),
                grace=None,
                cause=cause,
                warnings=warnings,
                watched=self.watched(self._tracker.tracked),
                step_out=step_aside,
                asker=self._asker,
            )

    @contextlib.contextmanager
    def _acting_on(self, directories: set[str]) -> Iterator[list[str]]:
        """Plan nothing for these scopes meanwhile; log the warnings that are put into the list."""
        warnings: list[str] = []
        self._acting |= directories
        try:
            yield warnings
        finally:
            self._acting -= directories
            for text in warnings:
                _log.warning("%s", text)

    async def _end(self, directory: str, cause: Cause) -> None:
        """Stop a scope for a cause found here, unless it is being stopped already."""
        tracked = self._tracker.tracked.get(directory)
        if tracked is None or directory in self._acting:
            return
        try:
            (result,) = await self.stop_selected([Selected(tracked.scope)], cause)
        except Exception as error:  # noqa: BLE001  as above
            self._tracker.faults.log(f"a stop: {words(error)}", error)
            self._tracker.look_later(directory, f"{directory}: {words(error)}")
            return
        if result.outcome in ("refused", "remains"):
            problem = result.problem or "it cannot be killed"
            self._tracker.look_later(directory, f"{directory}: {problem}")
        else:
            self._tracker.look_at([directory])

    def watched(self, directories: Iterable[str]) -> set[str]:
        """Return the leaves of these scopes whose ends this keeper reports, or has reported."""
        leaves = set()
        for directory in directories:
            leaves |= set(self._tracker.ending_leaves(directory))
            tracked = self._tracker.tracked.get(directory)
            if tracked is not None:
                members = tracked.scope.members
                leaves |= tracked.ends.keys()
                leaves |= {x.leaf for x in members if self._unseen_ends.is_reported(x.member_id)}
        return leaves

    # When to leave

    def _consider_leaving(self) -> None:
        if self._linger is None:
            return
        busy = (self._tracker.is_busy, self.runs, self._jobs, self._cleanup, self._rewrap)
        if any(busy) or self._publish:
            if self._leaving is not None:
                self._leaving.cancel()
                self._leaving = None
        elif self._leaving is None:
            self._leaving = self._loop.call_later(self._linger, self.finished.set)
