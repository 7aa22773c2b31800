"""Tells when processes end, and how: members' leaders, and owners that are no service."""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import select
from collections.abc import Callable
from dataclasses import dataclass

from scopekeeper.errors import LimitError
from scopekeeper.kernel.exit_status import (
    UNKNOWN,
    ChildSource,
    Exit,
    PidfdSource,
    Source,
    ZombieSource,
    exit_of,
    start_of,
)
from scopekeeper.kernel.proc_events import Connector

_log = logging.getLogger("scopekeeper")

CONNECTOR = "connector"
PATIENCE = 5.0
"""Seconds for a parent to reap a zombie whose status only the reaped one tells."""
_PAUSES = (0.002, 0.02, 0.1)
"""Seconds between questions to the connector."""
_AT_ONCE = 512


@dataclass(slots=True, eq=False)
class WatchedProcess:
    """A process that is watched; only ``Processes`` makes and changes one."""

    pid: int
    start_time: int
    notify: Callable[[Exit], None]
    pidfd: int
    timer: asyncio.TimerHandle | None = None


def allow_descriptors() -> None:
    """Raise the soft limit of open files to the hard one: each watched process takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def sources_here() -> tuple[str, ...]:
    """Return what ``Processes.sources`` would be, without watching anything."""
    names = (ChildSource.name, ZombieSource.name)
    if PidfdSource.works():
        return (*names, PidfdSource.name)
    try:
        Connector().close()
    except OSError:
        return names
    return (*names, CONNECTOR)


class Processes:
    """Watches processes by pidfd; one epoll of its own keeps the loop's small.

    A pidfd becomes readable when the whole process is a zombie, and hangs up (Linux 6.9) when it
    was reaped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, patience: float = PATIENCE) -> None:
        self._loop = loop
        self._patience = patience
        self._by_fd: dict[int, WatchedProcess] = {}
        self._wide = self._narrowing = False
        self._waits_for_reaping = PidfdSource.works()
        self._connector: Connector | None = None
        if not self._waits_for_reaping:
            with contextlib.suppress(OSError):
                self._connector = Connector()
        self._sources: list[Source] = [ChildSource(), ZombieSource()]
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self.look)

    @property
    def sources(self) -> tuple[str, ...]:
        """The ways to learn a status that are in use here, in the order in which they are asked.

        Without ``pidfd`` and ``connector`` a process whose parent reaps it at once, as most do,
        ends with a status unknown.
        """
        names = [source.name for source in self._sources]
        if self._waits_for_reaping:
            names.append(PidfdSource.name)
        if self._connector is not None:
            names.append(CONNECTOR)
        return tuple(names)

    def __len__(self) -> int:
        """Count the processes that are watched."""
        return len(self._by_fd)

    def close(self) -> None:
        """Watch nothing any more, and tell nothing."""
        for process in list(self._by_fd.values()):
            self.forget(process)
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        if self._connector is not None:
            self._connector.close()
            self._connector = None

    def watch(
        self, pid: int, start_time: int, notify: Callable[[Exit], None], *, pidfd: int = -1
    ) -> WatchedProcess | None:
        """Have tell called, from the loop, when the process ends; at once where it has ended.

        start_time is in clock ticks since boot, as proc_pid_stat(5) field 22. None where nothing
        can be told: that the process behind the number is the one meant cannot be proved, since
        this uid may not see it. A pidfd of it that was opened before, if there is one, becomes
        ours, and may be of one that was reaped. Raises LimitError when no descriptor is left.
        """
        if pidfd >= 0:
            return self._add(WatchedProcess(pid, start_time, notify, pidfd))
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise _no_descriptor(len(self._by_fd)) from None
            if error.errno not in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
                raise
            return self._ended_before(pid, start_time, notify)
        started = start_of(pid)
        process = WatchedProcess(pid, start_time, notify, pidfd)
        if started == start_time:
            return self._add(process)
        ended = started is not None or _has_ended(pidfd)
        os.close(pidfd)
        return self._ended_before(pid, start_time, notify) if ended else None

    def _add(self, process: WatchedProcess) -> WatchedProcess:
        self._by_fd[process.pidfd] = process
        self._epoll.register(process.pidfd, select.EPOLLIN | select.EPOLLONESHOT)
        self._widen()
        return process

    def _ended_before(
        self, pid: int, start_time: int, notify: Callable[[Exit], None]
    ) -> WatchedProcess:
        process = WatchedProcess(pid, start_time, notify, -1)
        self._loop.call_soon(self._notify, process, Exit(None, None, UNKNOWN))
        return process

    def forget(self, process: WatchedProcess | None) -> None:
        """Watch it no more, and tell nothing of it; None is all right."""
        if process is None:
            return
        process.notify = _nothing
        self._let_go(process)

    def _let_go(self, process: WatchedProcess) -> None:
        if process.timer is not None:
            process.timer.cancel()
            process.timer = None
        if process.pidfd >= 0:
            del self._by_fd[process.pidfd]
            self._epoll.unregister(process.pidfd)
            os.close(process.pidfd)
            process.pidfd = -1
            self._narrow_soon()

    def _widen(self) -> None:
        """Have no end go by unseen while many are added; the filter is made once, after that."""
        if self._connector is not None and not self._wide:
            self._wide = True
            self._connector.widen()
            self._narrow_soon()

    def _narrow_soon(self) -> None:
        if self._connector is not None and not self._narrowing:
            self._narrowing = True
            self._loop.call_soon(self._narrow)

    def _narrow(self) -> None:
        self._wide = self._narrowing = False
        if self._connector is not None:
            pids = {process.pid for process in self._by_fd.values()}
            self._connector.narrow(pids)
            self._connector.keep_only(pids)

    def look(self) -> None:
        """Tell of those that have ended by now; the loop calls it."""
        for pidfd, mask in self._epoll.poll(0, _AT_ONCE):
            process = self._by_fd.get(pidfd)
            if process is None:
                continue
            try:
                if mask & select.EPOLLHUP and self._waits_for_reaping:
                    self._reaped(process)
                else:
                    self._ended(process)
            except Exception:  # noqa: BLE001  the others of this batch would never be told
                _log.exception("the end of process %d: internal error", process.pid)

    def _ended(self, process: WatchedProcess) -> None:
        """Ask every way for the status of one that is a zombie, or was one a moment ago."""
        for source in self._sources:
            status = source.status(process)
            if status is not None:
                self._notify(process, exit_of(status, source.name))
                return
        if self._waits_for_reaping:
            self._epoll.modify(process.pidfd, 0)  # from now on only the hang-up wakes
            process.timer = self._loop.call_later(self._patience, self._reaped, process)
            return
        self._ask_connector(process)

    def _ask_connector(self, process: WatchedProcess, pauses: tuple[float, ...] = _PAUSES) -> None:
        """Ask the connector, and again a little later: its news come after that of the pidfd."""
        status = self._connector.ended(process.pid) if self._connector is not None else None
        if status is None and self._connector is not None and pauses:
            process.timer = self._loop.call_later(
                pauses[0], self._ask_connector, process, pauses[1:]
            )
        else:
            self._notify(process, exit_of(status, CONNECTOR))

    def _reaped(self, process: WatchedProcess) -> None:
        if process.pidfd >= 0:
            status = PidfdSource().status(process)
            self._notify(process, exit_of(status, PidfdSource.name))

    def _notify(self, process: WatchedProcess, how: Exit) -> None:
        self._let_go(process)
        notify, process.notify = process.notify, _nothing
        notify(how)


def _nothing(_: Exit) -> None:
    """Stand in for who does not want to be told any more."""


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _no_descriptor(watched: int) -> LimitError:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LimitError(
        f"no descriptor is left to watch another process ({watched} are watched, the limit is "
        f"{hard})",
        "raise LimitNOFILE= of the keeper's service",
    )
