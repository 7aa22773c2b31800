"""How a process ended: one small class for each way to learn its exit status.

The kernel gives a process's status to its parent. Every other way depends on the kernel's version
and on the reader's rights. A status here is the whole wait status, as waitpid(2) reports it.
"""

import contextlib
import fcntl
import os
import select
import signal
import struct

from scopekeeper.data import dataclass
from scopekeeper.kernel import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class EndedProcess(Protocol):
        """A process whose pidfd reports that it has ended."""

        pid: int
        start_time: int
        pidfd: int

    class Source(Protocol):
        """One way to learn how an ended process ended."""

        name: str

        def status(self, ended: EndedProcess) -> int | None:
            """Return the wait status of a process, None if this way does not know it."""
            ...


UNKNOWN = "unknown"

# linux/pidfd.h
_GET_INFO = 0xC040FF0B
_INFO = struct.Struct("=Q52xi")
"""pidfd_info: mask, fields that are not used here, wait status."""
_INFO_EXIT = 1 << 3


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; status and signal are both None if that is unknown."""

    status: int | None
    signal: int | None
    source: str
    """Where it is from: ``child``, ``zombie``, ``connector``, ``pidfd`` or ``unknown``."""


def exit_of(wait_status: int | None, source: str) -> Exit:
    """Split a wait status into exit status and signal."""
    if wait_status is None:
        return Exit(None, None, UNKNOWN)
    if os.WIFSIGNALED(wait_status):
        return Exit(None, os.WTERMSIG(wait_status), source)
    return Exit(os.WEXITSTATUS(wait_status), None, source)


def words(status: int | None, number: int | None) -> str:
    """Return how a process ended in words; '' if neither status nor signal is known."""
    if status is not None:
        return f"exit status {status}"
    return "" if number is None else f"killed by {signal_name(number)}"


def signal_name(number: int) -> str:
    """Return ``SIGTERM``; ``signal 99`` if it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def has_ended(pidfd: int) -> bool:
    """Return whether the process of a pidfd has ended: all of its threads (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def start_of(pid: int) -> int | None:
    """Return the start time of a process or zombie, None if it is gone or cannot be read."""
    with contextlib.suppress(OSError):
        stat = proc.stat_of(pid)
        return stat.start_time if stat is not None else None
    return None


class ChildSource:
    """waitid(2) for our own children; leaves the zombie for the code that reaps it."""

    name = "child"

    def status(self, ended: "EndedProcess") -> int | None:
        """Return the status of a child of ours that has ended."""
        try:
            found = os.waitid(os.P_PIDFD, ended.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except OSError:
            return None
        if found is None:
            return None
        if found.si_code == os.CLD_EXITED:
            return found.si_status << 8
        return found.si_status


class ZombieSource:
    """Field 52 of /proc/PID/stat, until the parent reaps the process.

    The kernel shows 0 to readers without ptrace rights; those with rights can also read the
    namespace links. Linux 6.1 and 6.18 give the status of the whole process, even if its first
    thread ended earlier.
    """

    name = "zombie"

    def status(self, ended: "EndedProcess") -> int | None:
        """Return the status of a process that nobody has reaped yet."""
        try:
            stat = proc.stat_of(ended.pid)
            if stat is None or stat.state != "Z" or stat.start_time != ended.start_time:
                return None
            os.readlink(f"/proc/{ended.pid}/ns/user")
        except OSError:
            return None
        return stat.wait_status


class PidfdSource:
    """PIDFD_GET_INFO with the exit flag (Linux 6.15), after the process was reaped."""

    name = "pidfd"

    def status(self, ended: "EndedProcess") -> int | None:
        """Return the status of a process that was reaped."""
        return _exit_info(ended.pidfd)

    @staticmethod
    def works() -> bool:
        """Return whether the kernel supports it; asks about a child that ends at once."""
        child = os.fork()
        if child == 0:
            os._exit(7)
        try:
            pidfd = os.pidfd_open(child)
        finally:
            os.waitpid(child, 0)
        try:
            return _exit_info(pidfd) == 7 << 8
        finally:
            os.close(pidfd)


def _exit_info(pidfd: int) -> int | None:
    info = bytearray(_INFO.pack(_INFO_EXIT, 0))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError:
        return None
    mask, status = _INFO.unpack(info)
    return status if mask & _INFO_EXIT else None
