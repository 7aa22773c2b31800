"""How a process ended: the ways to learn its status, each a small class.

A process that is not our child hands its status to its parent alone; what else there is depends
on the kernel and on who asks. A status is what waitpid(2) reports, whole.
"""

import contextlib
import fcntl
import os
import struct
from dataclasses import dataclass
from typing import Protocol

UNKNOWN = "unknown"

# linux/pidfd.h
_GET_INFO = 0xC040FF0B
_INFO = struct.Struct("=Q52xi")
"""pidfd_info: mask, what is of no use here, wait status."""
_INFO_EXIT = 1 << 3


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; status and signal are both None where that cannot be known."""

    status: int | None
    signal: int | None
    source: str
    """Which way told: ``child``, ``zombie``, ``connector``, ``pidfd`` or ``unknown``."""


def exit_of(wait_status: int | None, source: str) -> Exit:
    """Take a wait status apart."""
    if wait_status is None:
        return Exit(None, None, UNKNOWN)
    if os.WIFSIGNALED(wait_status):
        return Exit(None, os.WTERMSIG(wait_status), source)
    return Exit(os.WEXITSTATUS(wait_status), None, source)


class EndedProcess(Protocol):
    """A process whose pidfd says that it has ended."""

    pid: int
    start_time: int
    pidfd: int


class Source(Protocol):
    """One way to learn how an ended process ended."""

    name: str

    def status(self, ended: EndedProcess) -> int | None:
        """Return the wait status of a process; None where it is not known."""
        ...


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on; none where it cannot be read."""
    with contextlib.suppress(OSError):
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 4096).decode("utf-8", "replace").rpartition(")")[2].split()
        finally:
            os.close(fd)
    return []


def start_of(pid: int) -> int | None:
    """Return the start time of a process, zombies included; None where it cannot be read."""
    fields = stat_fields(pid)
    return int(fields[19]) if len(fields) > 19 else None


class ChildSource:
    """waitid(2), which leaves the zombie to whoever reaps it: for our own children."""

    name = "child"

    def status(self, ended: EndedProcess) -> int | None:
        """Return the status of a child of ours."""
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
    """Field 52 of /proc/PID/stat, until the parent reaps it.

    The kernel writes 0 for one that may not look; who may, may also read the namespace links.
    (Linux 6.1 and 6.18 give the status of the whole process, also where its first thread ended
    before.)
    """

    name = "zombie"

    def status(self, ended: EndedProcess) -> int | None:
        """Return the status of one that nobody has reaped."""
        fields = stat_fields(ended.pid)
        if len(fields) < 50 or fields[0] != "Z" or int(fields[19]) != ended.start_time:
            return None
        try:
            os.readlink(f"/proc/{ended.pid}/ns/user")
        except OSError:
            return None
        return int(fields[49])


class PidfdSource:
    """PIDFD_GET_INFO with the exit flag (Linux 6.15), once the process was reaped."""

    name = "pidfd"

    def status(self, ended: EndedProcess) -> int | None:
        """Return the status of one that was reaped."""
        return _exit_info(ended.pidfd)

    @staticmethod
    def works() -> bool:
        """Tell whether the kernel can do it, by a child that ends at once."""
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
