"""Notifies when nobody may be left to talk to an MCP server; the proof is ``kernel.peers``.

A pipe is watched by inotify, which does not hold it open: the kernel reports every close of its
other end (Linux keeps these events for pipes). A socket pair has no such events. Its other end is
asked for by socket diagnosis, in a child: when a process ends that holds it, and now and then,
since such a process can also close it and live on.
"""

import asyncio
import contextlib
import logging
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from scopekeeper.errors import LimitError, words
from scopekeeper.keeper.jobs import in_thread
from scopekeeper.keeper.processes import Processes, WatchedProcess
from scopekeeper.kernel import peers, proc, unix_sockets
from scopekeeper.kernel.exit_status import Exit
from scopekeeper.kernel.inotify import IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, Inotify, Subscription
from scopekeeper.kernel.unix_sockets import Sockets

_log = logging.getLogger("scopekeeper")

_AFTER_CLOSE = 0.05
"""Seconds: the kernel reports a close just before it takes effect."""
_AFTER_START = 1.0
"""Seconds until a client has closed its copy of what it gave to the server."""
_AGAIN = 300.0
"""Seconds between looks at sockets that are still held."""
_FURTHEST = 16
"""Ancestors of a server among which its client is searched."""
_CLOSES = ((0, IN_CLOSE_WRITE), (1, IN_CLOSE_NOWRITE))
"""What the other end of stdin and of stdout is closed by: a writer and a reader."""


@dataclass(slots=True, eq=False)
class Followed:
    """The standard input and output of one server."""

    pid: int
    notify: Callable[[], None]
    subscriptions: list[Subscription | None] = field(default_factory=list)
    stdin: int = 0
    """The inode of its socket; 0 if it is none."""
    is_searched: bool = False
    """Whether the holder of that socket's other end has been searched."""


class StdioWatch:
    """Follows servers; ``notify`` of each is called from the loop, possibly without any change."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, inotify: Inotify, processes: Processes
    ) -> None:
        self._loop = loop
        self._inotify = inotify
        self._processes = processes
        self._sockets: set[Followed] = set()
        self._holders: dict[tuple[int, int], WatchedProcess | None] = {}
        """Clients by pid and start time."""
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self.sockets: Sockets = {}
        """What was known when the kernel was last asked."""

    def follow(self, pid: int, notify: Callable[[], None]) -> Followed:
        """Follow the server with this pid, which has just been seen to live; raises LimitError."""
        followed = Followed(pid, notify)
        for fd, closes in _CLOSES:
            path = f"/proc/{pid}/fd/{fd}"
            with contextlib.suppress(OSError):
                link = os.readlink(path)
                if link.startswith("pipe:["):
                    subscription = self._inotify.add(path, closes, lambda _: self._closed(followed))
                    followed.subscriptions.append(subscription)
                elif link.startswith("socket:[") and fd == 0:
                    followed.stdin = int(link[8:-1])
                    self._sockets.add(followed)
                    self._ask_in(_AFTER_START)
        return followed

    def forget(self, followed: Followed | None) -> None:
        """Stop following; None and one that was forgotten already are fine."""
        if followed is None:
            return
        for subscription in followed.subscriptions:
            self._inotify.remove(subscription)
        followed.notify = _nothing
        self._sockets.discard(followed)
        if not self._sockets:
            for holder in self._holders.values():
                self._processes.forget(holder)
            self._holders.clear()

    def close(self) -> None:
        """Stop asking."""
        self._sockets.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _closed(self, followed: Followed) -> None:
        self._loop.call_later(_AFTER_CLOSE, followed.notify)

    def _ask_in(self, seconds: float) -> None:
        when = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._ask)

    def _ask(self) -> None:
        self._timer = None
        if not self._sockets:
            return
        if self._asking is None:
            self._asking = self._loop.create_task(self._look())
        else:
            self._ask_in(_AFTER_START)

    async def _look(self) -> None:
        followed = list(self._sockets)
        try:
            self.sockets = sockets = await in_thread(unix_sockets.read_in_child)
            for each in followed:
                if each.stdin in sockets and sockets[each.stdin].has_no_writer:
                    each.notify()
            new = [each for each in followed if not each.is_searched]
            holders = await in_thread(_holders, [each.pid for each in new], sockets)
            for each in new:
                each.is_searched = True
            for holder in holders - self._holders.keys() if self._sockets else ():
                with contextlib.suppress(LimitError):  # then it is looked at now and then
                    self._holders[holder] = self._processes.watch(*holder, self._holder_ended)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            _log.warning("the sockets of servers cannot be looked at: %s", words(error))
        finally:
            self._asking = None
            if self._sockets:
                self._ask_in(_AGAIN)

    def _holder_ended(self, _: Exit) -> None:
        self._ask_in(_AFTER_CLOSE)


def _nothing() -> None:
    """Replace the callback of what is no longer followed."""


def _holders(pids: list[int], sockets: Sockets) -> set[tuple[int, int]]:
    """Return the pid and start time of each ancestor that holds the other end of a stdin."""
    return {holder for pid in pids if (holder := _holder(pid, sockets)) is not None}


def _holder(pid: int, sockets: Sockets) -> tuple[int, int] | None:
    end = peers.other_end(pid, 0, lambda: sockets)
    if end is None:
        return None
    with contextlib.suppress(OSError):
        for _ in range(_FURTHEST):
            stat = proc.stat_of(pid)
            if stat is None or stat.parent < 2:
                return None
            pid = stat.parent
            if peers.holds(pid, end):
                return pid, int(proc.start_time(pid))
    return None
