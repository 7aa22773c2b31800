"""All runs that the keeper holds, from their start to their end, across its restarts."""

import asyncio
import dataclasses
import logging
import os
import time
from collections.abc import Callable

from scopekeeper.errors import ConflictError, LimitError, ScopekeeperError
from scopekeeper.exec import log_retention, run
from scopekeeper.exec.log import Log
from scopekeeper.exec.run import Ended, Run
from scopekeeper.history.end import End
from scopekeeper.keeper import end_reason, notices
from scopekeeper.keeper.end_reason import Circumstances
from scopekeeper.keeper.exec import handover
from scopekeeper.keeper.exec.end_of_run import as_end, ended_as, names_of, title
from scopekeeper.keeper.exec.handover import Stored
from scopekeeper.keeper.exec.held import Descriptors, Held, recognise
from scopekeeper.keeper.exec.live import Live, as_launched, save, with_last_words
from scopekeeper.keeper.exec.run_timeouts import RunTimeouts
from scopekeeper.keeper.history_thread import HistoryThread
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.keeper.processes import Processes
from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.kernel.exit_status import UNKNOWN, Exit
from scopekeeper.lifecycle import unseen_ends
from scopekeeper.scope.model import Member, Scope
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.systemd.fdstore import DescriptorStore
from scopekeeper.systemd.units import KEEPER

_log = logging.getLogger("scopekeeper")

_SETTLE_SECONDS = 1.0
"""After the command's end, until its scope is seen empty and the reason is known."""
_START_SECONDS = 30.0
"""How long a run may take to get a scope."""
_TIDY_SECONDS = 10.0
_NOT_STARTED = "its client did not start it"
_LOST = "its terminal went with the keeper that held it"


class Runs:
    """Holds the runs of one uid, in one event loop.

    tell is called with a warning, or with an end that nothing else reports; end to end the scope of
    a run; changed when a run was added or removed.
    """

    def __init__(
        self,
        processes: Processes,
        store: DescriptorStore,
        tell: notices.Tell,
        end: Callable[[str, Cause], None],
        changed: Callable[[], None],
        jobs: Jobs,
        archive: HistoryThread,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._processes = processes
        self._store = store
        self._tell = tell
        self._end_scope = end
        self._changed = changed
        self._jobs = jobs
        self._archive = archive
        self._tidying = False
        self.live: dict[str, Live] = {}
        """By id."""

    def __bool__(self) -> bool:
        return bool(self.live)

    # Starting

    def recover(self, descriptors: dict[str, list[int]]) -> None:
        """Continue the runs whose descriptors the store has kept; end the others."""
        stored = handover.sort(descriptors, self._store)
        boot = proc.boot_id()
        for known in run.load_all():
            mine = stored.pop(known.id, Stored())
            try:
                self._recover(known, mine, boot)
            except Exception:  # noqa: BLE001  the other runs must be recovered
                _log.exception("the run %s is left as it is: internal error", known.id)
                mine.close()
        for run_id, unknown in stored.items():
            self._set_aside(run_id, unknown)

    def _recover(self, known: Run, stored: Stored, boot: str) -> None:
        if known.ended is not None and not (stored.descriptors and os.path.isdir(known.directory)):
            stored.close()
            handover.drop(self._store, known.id)
        elif known.boot_id != boot:
            stored.close()
            words = "the machine went down while it ran"
            ended = with_last_words(known, Ended(_now(), Reason.REBOOT.value, words))
            save(dataclasses.replace(known, ended=ended))
        else:
            self._go_on(known, stored)

    def _go_on(self, known: Run, stored: Stored) -> None:
        fds = recognise(stored.descriptors) if stored.descriptors else None
        try:
            live = self._add(known, fds)
        except ScopekeeperError as error:
            _log.error("the run %s is left as it is: %s", known.id, error)
            stored.close()
            return
        if fds is not None:
            stored.descriptors = []
        elif known.ended is None:
            _log.warning("%s: %s", title(known), _LOST, extra=names_of(known))
        live.seen = self._lives_on(live)
        pid, began = known.pid, known.start_time
        if known.ended is None and pid is not None and began is not None:
            self._watch(live, pid, began, stored.leader)
            stored.leader = -1
        elif known.ended is None:
            self._loop.call_later(_START_SECONDS, self._expect_scope, live)
        stored.close()

    def _set_aside(self, run_id: str, unknown: Stored) -> None:
        """Drop descriptors without a record, unless a process still uses them."""
        if unknown.is_used:
            _log.error(
                "the descriptor store has a run %s that is still used, though %s cannot be read: "
                "it is kept there; restart the keeper when that is mended",
                run_id,
                run.folder() / run_id,
            )
        else:
            _log.warning("the descriptor store had an unknown run %s", run_id)
            handover.drop(self._store, run_id)
        unknown.close()

    def hold(self, new: Run, descriptors: list[int]) -> None:
        """Hold the descriptors of a run that is about to start.

        Raises ConflictError, LimitError, StateError, OSError; then the caller keeps the
        descriptors, and no file of the run remains.
        """
        if new.id in self.live or run.load(new.id) is not None:
            raise ConflictError(f"there is a run {new.id} already", "start it again")
        if self._store.exists and self._store.room < handover.FDS_OF_RUN:
            raise LimitError(
                f"the keeper holds {len(self.live)} runs and has no room for another "
                f"(FileDescriptorStoreMax={self._store.most})",
                f"stop some, or raise it in a drop-in of {KEEPER}",
            )
        handover.check(new, descriptors)
        fds = handover.arrange(new, descriptors)
        try:
            run.save(new)
            live = self._add(new, fds)
        except BaseException:
            run.discard(new)
            fds.unstage()
            raise
        handover.keep(self._store, new.id, fds)
        self._loop.call_later(_START_SECONDS, self._expect_scope, live)
        self._changed()

    def _add(self, known: Run, fds: Descriptors | None) -> Live:
        """Add a run to the live ones; raises StateError, OSError."""
        live = Live(known, Log(known.folder, known.log_max))

        def input_closed() -> None:
            handover.drop_input(self._store, known.id)

        if fds is not None:
            live.held = Held(self._loop, fds, live.log, live.wrote, input_closed)
        self.live[known.id] = live
        # output to a lost terminal is not seen
        limited = known if fds is not None else dataclasses.replace(known, no_output_timeout=None)
        if (limited.timeout or limited.no_output_timeout) and known.ended is None:
            live.watchdog = RunTimeouts(
                self._loop,
                limited,
                lambda text: self._warn(live, text),
                lambda cause: self._expired(live, cause),
            )
        return live

    def _warn(self, live: Live, text: str) -> None:
        _log.warning("%s %s", title(live.run), text, extra=names_of(live.run))
        self._tell(notices.RunWarning(live.run, text))

    def _expired(self, live: Live, cause: Cause) -> None:
        """End a run whose time is over."""
        if live.run.id not in self.live:
            return
        if live.run.directory:
            self._end_scope(live.run.directory, cause)
        else:  # it has no scope yet
            self._loop.call_later(_SETTLE_SECONDS, self._expired, live, cause)

    def started(self, run_id: str, pid: int, start_time: int, pidfd: int) -> None:
        """Record the process that becomes the command.

        Raises ScopekeeperError; then the caller keeps the pidfd.
        """
        live = self.get(run_id)
        if live.run.pid is not None:
            raise ConflictError(f"the run {run_id} has a command already")
        handover.check_leader(pid, pidfd)
        known = dataclasses.replace(live.run, pid=pid, start_time=start_time)
        run.save(known)
        live.run = known
        if pidfd >= 0:
            handover.keep_leader(self._store, run_id, pidfd)
        self._watch(live, pid, start_time, pidfd)

    def _watch(self, live: Live, pid: int, start_time: int, pidfd: int) -> None:
        def ended(how: Exit) -> None:
            self._leader_ended(live, how)

        try:
            live.leader = self._processes.watch(pid, start_time, ended, pidfd=pidfd)
        except LimitError as error:
            _log.error("%s", error)

    def get(self, run_id: str) -> Live:
        """Return a run that has not ended; raises ScopekeeperError."""
        live = self.live.get(run_id)
        if live is None:
            raise ScopekeeperError(f"the keeper holds no run {run_id}")
        return live

    def forget(self, run_id: str, status: int) -> None:
        """End a run whose command was not started."""
        live = self.live.get(run_id)
        if live is not None and not live.run.directory:
            evidence = f"its command was not started (status {status})"
            self._conclude(live, Ended(_now(), Reason.EXITED.value, evidence, status))

    def abandon(self, run_id: str) -> None:
        """Forget a run whose client hung up before it started the command."""
        live = self.live.get(run_id)
        if live is not None:
            self._expect_scope(live)

    # Notices

    def completed(self, notice: notices.Notice) -> notices.Notice:
        """Return a notice, with the exit status of a run's command if only the run has it."""
        if isinstance(notice, notices.MemberEnded):
            live = self._of(notice.end)
            if live is not None:
                return notices.MemberEnded(end_reason.completed(notice.end, live.exit))
        return notice

    def take_in(self, notice: notices.Notice) -> None:
        """Follow a notice of the keeper."""
        if isinstance(notice, notices.MemberStarted):
            member = notice.member
            live = self.live.get(notice.scope.run) or self._before(member)
            if live is not None and member.pid == live.run.pid:
                self._has_scope(live, notice.scope, member)
        elif isinstance(notice, notices.MemberEnded):
            live = self._of(notice.end)
            if live is not None and notice.end.reason is not Reason.CONTINUED:
                self._conclude(live, ended_as(live, notice.end))

    def _of(self, end: End) -> Live | None:
        """Return the run whose command's end this is, in the run's own scope or another one."""
        live = self.live.get(end.run)
        if live is not None and live.run.pid == end.pid:
            return live
        same = (x for x in self.live.values() if (x.run.pid, x.run.leaf) == (end.pid, end.leaf))
        return next(same, None)

    def _before(self, member: Member) -> Live | None:
        """Return the run whose command goes on as this member, by becoming ``run``."""
        if not member.earlier:
            return None
        who = (member.pid, member.start_time)
        return next((x for x in self.live.values() if (x.run.pid, x.run.start_time) == who), None)

    def _has_scope(self, live: Live, scope: Scope, member: Member) -> None:
        live.run = dataclasses.replace(
            live.run, directory=scope.directory, leaf=member.leaf, joined=member.started
        )
        live.seen = True
        save(live.run)

    def _leader_ended(self, live: Live, how: Exit) -> None:
        live.leader, live.exit = None, how
        if live.run.id in self.live:
            live.settling = self._loop.call_later(_SETTLE_SECONDS, self._settle, live)

    def _settle(self, live: Live) -> None:
        """End a run whose command has ended without a notice of its member's end.

        Processes that are left in its scope keep the terminal, until the scope is empty.
        """
        live.settling = None
        if live.run.ended is not None or live.run.id not in self.live:
            return
        if not (live.seen and live.run.directory):
            self._jobs.begin(self._settle_unseen, live)
        elif live.patience and not self._lives_on(live):
            live.patience -= 1  # the notice of its member's end, with the reason, is about to come
            live.settling = self._loop.call_later(_SETTLE_SECONDS, self._settle, live)
        else:
            self._end_unwatched(live, None)

    async def _settle_unseen(self, live: Live) -> None:
        """End a run whose scope was not seen; the history may know it, and who stopped it."""
        launched = await self._archive.do(as_launched, live.run)
        if not live.run.directory:  # else it was seen meanwhile
            live.run = launched
        (cause,) = await self._archive.do(unseen_ends.causes_of, [as_end(live.run)])
        if live.run.ended is None and live.run.id in self.live and not self._jobs.closed:
            self._end_unwatched(live, cause)

    def _end_unwatched(self, live: Live, cause: Cause | None) -> None:
        how = live.exit or Exit(None, None, UNKNOWN)
        end = end_reason.explain(as_end(live.run), how, cause, 0, Circumstances())
        if live.held is None:
            end = dataclasses.replace(end, evidence=f"{end.evidence}; {_LOST}")
        end = dataclasses.replace(end, seen=live.seen)
        live.end(ended_as(live, end))
        if not self._lives_on(live):  # it ended before its scope was seen, or unseen
            self._tell(notices.MemberEnded(end))
        if not cgroupfs.is_populated(live.run.directory):
            self._let_go(live)

    def _lives_on(self, live: Live) -> bool:
        if not live.run.directory:
            return False
        return cgroupfs.is_populated(f"{live.run.directory}/{live.run.leaf}")

    def _expect_scope(self, live: Live) -> None:
        """Forget a run whose client did not start the command: nothing has run."""
        if live.run.id not in self.live or live.run.pid is not None:
            return
        self._let_go(live)
        problem = log_retention.remove(live.run)
        if problem:
            _log.error("%s", problem)
        ended = Ended(_now(), Reason.UNKNOWN.value, _NOT_STARTED)
        live.run = dataclasses.replace(live.run, ended=ended)  # for listeners, not written down
        for call in tuple(live.on_end):
            call()

    def _conclude(self, live: Live, ended: Ended) -> None:
        """Record the rest of its output and how it ended, and close its descriptors."""
        live.end(ended)
        self._let_go(live)

    def _let_go(self, live: Live) -> None:
        if self.live.pop(live.run.id, None) is None:
            return
        self._processes.forget(live.leader)
        live.close()
        handover.drop(self._store, live.run.id)
        self._changed()
        if not self._tidying:
            self._tidying = True
            self._jobs.begin_later(_TIDY_SECONDS, self.tidy)

    def close(self) -> None:
        """Leave all runs to the next keeper, with the descriptors in the store."""
        for live in self.live.values():
            if live.held is not None and not self._store.exists:
                text = f"{title(live.run)} loses its terminal"
                _log.warning("%s", text, extra=names_of(live.run))
            self._processes.forget(live.leader)
            live.close()

    async def tidy(self) -> None:
        """Remove the oldest ended runs if they take too much of the disk."""
        self._tidying = False
        try:
            tidied = await asyncio.to_thread(log_retention.tidy)
        except ScopekeeperError as error:
            _log.error("%s", error)
        else:
            for problem in tidied.problems:
                _log.error("%s", problem)


def _now() -> int:
    return time.time_ns() // 1000
