"""Watches when and how processes end: leaders of members, and owners that are processes."""

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
    ZombieSource,
    exit_of,
    has_ended,
    start_of,
)
from scopekeeper.kernel.proc_events import Connector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.kernel.exit_status import Source

_log = logging.getLogger("scopekeeper")

CONNECTOR = "connector"
PATIENCE = 5.0
"""Seconds to wait for a parent to reap a zombie whose status is readable only afterwards."""
_PAUSES = (0.002, 0.02, 0.1)
"""Seconds between attempts to read a status from the connector."""
_AT_ONCE = 512


@dataclass(slots=True, eq=False)
class WatchedProcess:
    """A process that is watched; only ``Processes`` creates and changes one."""

    pid: int
    start_time: int
    notify: Callable[[Exit], None]
    pidfd: int
    timer: asyncio.TimerHandle | None = None


def allow_descriptors() -> None:
    """Raise the soft limit of open files to the hard limit: each watched process takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def sources_here() -> tuple[str, ...]:
    """Return the value that ``Processes.sources`` would have, without watching anything."""
    names = (ChildSource.name, ZombieSource.name)
    if PidfdSource.works():
        return (*names, PidfdSource.name)
    try:
        Connector().close()
    except OSError:
        return names
    return (*names, CONNECTOR)


class Processes:
    """Watches processes by pidfd, in an epoll of its own that keeps the loop's small.

    A pidfd becomes readable when the whole process is a zombie; it hangs up (Linux 6.9) when the
    process has been reaped.
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
        """The sources of an exit status in use here, in the order in which they are asked.

        Without ``pidfd`` and ``connector``, the status of a process is unknown if its parent reaps
        it at once, as most do.
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
        """Stop watching, and call no callback."""
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
        """Have notify called, from the loop, when the process ends; soon if it has ended already.

        start_time is in clock ticks since boot, as proc_pid_stat(5) field 22. Returns None if this
        uid cannot see the process: then nothing proves that the pid is the right process. pidfd is
        one opened earlier, which may be of a reaped process; it becomes ours. Raises LimitError
        when no descriptor is left.
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
        ended = started is not None or has_ended(pidfd)
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
        """Stop watching a process, and never call its callback; None does nothing."""
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
        """Let all events through while processes are added; build the filter once, afterwards."""
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
        """Report the processes that have ended; called by the loop."""
        for pidfd, mask in self._epoll.poll(0, _AT_ONCE):
            process = self._by_fd.get(pidfd)
            if process is None:
                continue
            try:
                if mask & select.EPOLLHUP and self._waits_for_reaping:
                    self._reaped(process)
                else:
                    self._ended(process)
            except Exception:  # noqa: BLE001  else the rest of this batch would be lost
                _log.exception("the end of process %d: internal error", process.pid)

    def _ended(self, process: WatchedProcess) -> None:
        """Ask every source for the status of a process that is a zombie, or was one just now."""
        for source in self._sources:
            status = source.status(process)
            if status is not None:
                self._notify(process, exit_of(status, source.name))
                return
        if self._waits_for_reaping:
            self._epoll.modify(process.pidfd, 0)  # from now on only the hang-up wakes us
            process.timer = self._loop.call_later(self._patience, self._reaped, process)
            return
        self._ask_connector(process)

    def _ask_connector(self, process: WatchedProcess, pauses: tuple[float, ...] = _PAUSES) -> None:
        """Ask the connector, and again a little later: its event comes after that of the pidfd."""
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
    """Replace the callback of a process that is no longer watched."""


def _no_descriptor(watched: int) -> LimitError:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LimitError(
        f"no descriptor is left to watch another process ({watched} are watched, the limit is "
        f"{hard})",
        "raise LimitNOFILE= of the keeper's service",
    )
