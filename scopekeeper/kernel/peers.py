"""Who holds the other end of a pipe or a socket pair that a process has open.

Sockets are found by socket diagnosis (sock_diag(7)), through pyroute2. That takes 0.1 s and more to
import and runs an event loop of its own: it is imported when a socket is asked about, never on the
hot path, and in the keeper only in a thread.
"""

import contextlib
import os
import select
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass

from scopekeeper.kernel import proc

_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
_READS, _WRITES = 0o400, 0o200
"""Modes of a link in /proc/PID/fd: how the descriptor is open."""
_SECONDS = 0.5
"""The search for holders reads every descriptor of every process; it stops after this time."""


@dataclass(frozen=True, slots=True)
class OtherEnd:
    """The other end of a pipe or a socket pair."""

    link: str
    """What the links in /proc/PID/fd of its holders point to: ``pipe:[N]`` or ``socket:[N]``."""
    mode: int
    """The access that its holders have, as bits of those links' mode."""
    is_held: bool
    """False if it is proved that no process holds it open."""


def has_other_end(fd: int) -> bool:
    """Return whether anybody holds the other end of our descriptor of a pipe or a terminal."""
    poll = select.poll()
    poll.register(fd, 0)
    return not any(mask & _GONE for _, mask in poll.poll(0))


def other_end(pid: int, fd: int) -> OtherEnd | None:
    """Return the other end of a process's descriptor.

    None if that is neither a pipe without a name nor a connected unix socket, or if it cannot be
    looked at: then nothing is proved.
    """
    path = f"/proc/{pid}/fd/{fd}"
    try:
        link = os.readlink(path)
        if link.startswith("pipe:["):
            return _other_end_of_pipe(path, link)
        if link.startswith("socket:["):
            return _other_end_of_socket(int(link[8:-1]))
    except OSError:
        return None
    return None


def _other_end_of_pipe(path: str, link: str) -> OtherEnd | None:
    mode = os.lstat(path).st_mode & (_READS | _WRITES)
    if mode not in (_READS, _WRITES):
        return None
    # While we hold our copy, the writers get no SIGPIPE and the readers no end of file: close it
    # at once.
    looking = os.open(path, (os.O_RDONLY if mode == _READS else os.O_WRONLY) | os.O_NONBLOCK)
    try:
        is_held = has_other_end(looking)
    finally:
        os.close(looking)
    return OtherEnd(link, mode ^ (_READS | _WRITES), is_held)


def _other_end_of_socket(inode: int) -> OtherEnd | None:
    from pyroute2.netlink.diag import DiagSocket
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with DiagSocket() as diagnosis:
            diagnosis.bind()
            sockets = diagnosis.get_sock_stats(family=socket.AF_UNIX)
    except NetlinkError:
        return None
    for each in sockets:  # an error of the kernel's is a message without an inode
        peer = each.get_attr("UNIX_DIAG_PEER") if each.get("udiag_ino") == inode else None
        if peer is not None:
            # the kernel shows 0 for a peer that was closed
            return OtherEnd(f"socket:[{peer}]", _READS | _WRITES, peer != 0)
    return None  # it is of another family or network namespace, or was never connected


def holders(end: OtherEnd, but: Collection[int] = ()) -> list[int]:
    """Return the processes that are seen to hold an end open, without those in but.

    The descriptors of another user's processes can be read by root only.
    """
    found = []
    deadline = time.monotonic() + _SECONDS
    for pid in proc.pids() if end.is_held else ():
        if pid not in but and _holds(pid, end):
            found.append(pid)
        if time.monotonic() > deadline:
            break
    return found


def _holds(pid: int, end: OtherEnd) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{name}") == end.link:
                    mode = os.lstat(f"{folder}/{name}").st_mode
                    if mode & end.mode == end.mode:
                        return True
    return False
