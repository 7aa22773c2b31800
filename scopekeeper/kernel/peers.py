"""Who holds the other end of a pipe or a socket pair that a process has open."""

import contextlib
import os
import select
import time
from collections.abc import Callable, Collection

from scopekeeper.data import dataclass
from scopekeeper.kernel import proc
from scopekeeper.kernel.unix_sockets import Sockets, UnixSocket, read

_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
_READS, _WRITES = 0o400, 0o200
"""Modes of a link in /proc/PID/fd: how the descriptor is open."""
_MODES = {os.O_RDONLY: _READS, os.O_WRONLY: _WRITES}
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


def has_no_writer(pid: int, sockets: Callable[[], Sockets]) -> bool:
    """Return whether it is proved that nobody can write to a process's standard input any more.

    Never if that is a terminal, a file, a device or a FIFO with a name, or cannot be looked at.
    sockets returns what is known of sockets; it is only called if it is one.
    """
    found = _left_alone(f"/proc/{pid}/fd/0", os.O_RDONLY, sockets)
    return found.has_no_writer if isinstance(found, UnixSocket) else found


def has_no_reader(pid: int, sockets: Callable[[], Sockets]) -> bool:
    """Return whether it is proved that nobody reads a process's standard output any more."""
    found = _left_alone(f"/proc/{pid}/fd/1", os.O_WRONLY, sockets)
    return found.has_no_reader if isinstance(found, UnixSocket) else found


def _left_alone(path: str, access: int, sockets: Callable[[], Sockets]) -> UnixSocket | bool:
    """Return whether nobody holds the other end of a pipe; or the socket, if it is one."""
    try:
        link = os.readlink(path)
        if link.startswith("socket:["):
            return sockets().get(int(link[8:-1]), False)
        if not link.startswith("pipe:["):
            return False
        if os.lstat(path).st_mode & (_READS | _WRITES) != _MODES[access]:
            return False  # it holds the other end itself
        return not _is_pipe_held(path, link, access)
    except OSError:
        return False


def _is_pipe_held(path: str, link: str, access: int) -> bool:
    """Return whether anybody holds the other end of the pipe at path; raises OSError.

    link is what path was a link to. If it is another file by now, that counts as held.

    While we hold our copy, the writers get no SIGPIPE and the readers no end of file: it is closed
    at once.
    """
    looking = os.open(path, access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        return link != f"pipe:[{os.fstat(looking).st_ino}]" or has_other_end(looking)
    finally:
        os.close(looking)


def other_end(pid: int, fd: int, sockets: Callable[[], Sockets] = read) -> OtherEnd | None:
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
            return _other_end_of_socket(int(link[8:-1]), sockets())
    except OSError:
        return None
    return None


def _other_end_of_pipe(path: str, link: str) -> OtherEnd | None:
    mode = os.lstat(path).st_mode & (_READS | _WRITES)
    if mode not in (_READS, _WRITES):
        return None
    is_held = _is_pipe_held(path, link, os.O_RDONLY if mode == _READS else os.O_WRONLY)
    return OtherEnd(link, mode ^ (_READS | _WRITES), is_held)


def _other_end_of_socket(inode: int, sockets: Sockets) -> OtherEnd | None:
    found = sockets.get(inode)
    if found is None:
        return None  # it is of another family or network namespace
    is_held = not (found.has_no_writer and found.has_no_reader)
    if is_held and not found.peer:
        return None  # it was never connected
    return OtherEnd(f"socket:[{found.peer}]", _READS | _WRITES, is_held)


def holders(end: OtherEnd, but: Collection[int] = ()) -> list[int]:
    """Return the processes that are seen to hold an end open, without those in but.

    The descriptors of another user's processes can be read by root only.
    """
    found = []
    deadline = time.monotonic() + _SECONDS
    for pid in proc.pids() if end.is_held else ():
        if pid not in but and holds(pid, end):
            found.append(pid)
        if time.monotonic() > deadline:
            break
    return found


def holds(pid: int, end: OtherEnd) -> bool:
    """Return whether a process is seen to hold an end open."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{name}") == end.link:
                    mode = os.lstat(f"{folder}/{name}").st_mode
                    if mode & end.mode == end.mode:
                        return True
    return False
