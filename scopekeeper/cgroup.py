"""cgroupfs for everything but the hot path: walk, read, signal, kill, wait, remove.

Every function takes the directory it works on; nothing here knows where cgroupfs is mounted.
Reading a cgroup that was removed answers ENOENT or ENODEV; that is told as "gone", not raised.
"""

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

GONE = (errno.ENOENT, errno.ENODEV)
_AT_ONCE = 200
"""Processes that are held open together."""
_LINKS_OF_A_LEAF = 2
"""kernfs counts a directory's subdirectories as links, beside its name and its dot."""


def read(directory: str, name: str) -> str | None:
    """Return the text of a cgroup's file, None where the cgroup or the file is gone."""
    try:
        return _read(f"{directory}/{name}")
    except OSError as error:
        if error.errno in GONE or isinstance(error, NotADirectoryError):
            return None
        raise


def _read(path: str) -> str:
    """Read a kernel's file whole; plain descriptors take a third of the time of a file object."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 4096):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "surrogateescape")


def keyed(text: str | None, key: str) -> int | None:
    """Return one number of a file with a ``key value`` on each line, None where it is not there."""
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return None


def write(directory: str, name: str, value: str) -> bool:
    """Write one value; False where the cgroup or the file is gone."""
    try:
        with open(f"{directory}/{name}", "wb", buffering=0) as file:
            file.write(value.encode())
    except OSError as error:
        if error.errno in GONE:
            return False
        raise
    return True


def attribute(directory: str, name: str) -> bytes | None:
    """Return an extended attribute, None where it or the cgroup is not there."""
    try:
        return os.getxattr(directory, name)
    except OSError as error:
        if error.errno in (*GONE, errno.ENODATA):
            return None
        raise


def find(directory: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yield the cgroups below directory whose name is wanted; not what is inside of those."""
    for name in children(directory):
        path = f"{directory}/{name}"
        if wanted(name):
            yield path
        else:
            yield from find(path, wanted)


def children(directory: str) -> list[str]:
    """Return the names of the cgroups directly inside; none where it is gone."""
    try:
        if os.stat(directory).st_nlink <= _LINKS_OF_A_LEAF:
            return []
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in GONE:
            return []
        raise


def own_processes(directory: str) -> list[int]:
    """Return the pids directly in one cgroup; a pid of another PID namespace reads as 0."""
    return [int(line) for line in (read(directory, "cgroup.procs") or "").split()]


def processes(directory: str) -> list[int]:
    """Return the pids of a cgroup and all below it."""
    return [pid for pids in processes_by_cgroup(directory).values() for pid in pids]


def processes_by_cgroup(directory: str) -> dict[str, list[int]]:
    """Return the pids of a cgroup and all below it, by the directory that they are in."""
    found = {directory: own_processes(directory)}
    for name in children(directory):
        found |= processes_by_cgroup(f"{directory}/{name}")
    return found


def is_populated(directory: str) -> bool:
    """Tell whether any process lives in the subtree; a removed cgroup has none."""
    return "populated 1" in (read(directory, "cgroup.events") or "")


def kill(directory: str) -> None:
    """Kill the whole subtree at once, forks in progress included (cgroup.kill, Linux 5.14).

    No new process can come to be meanwhile: the limit of tasks goes to 0 first.
    """
    with contextlib.suppress(OSError):
        write(directory, "pids.max", "0")
    write(directory, "cgroup.kill", "1")


def signal_processes(found: Mapping[str, Sequence[int]], number: int) -> set[int]:
    """Signal processes that are still in the directory that they were found in; return those.

    Each pidfd is opened first and the members are read after that: a process that is still alive
    then, under a number that is still listed, is the listed one. What died meanwhile answers
    ESRCH, whoever has its number now.
    """
    signalled = set()
    for directory, pids in found.items():
        for start in range(0, len(pids), _AT_ONCE):
            opened = {}
            try:
                for pid in pids[start : start + _AT_ONCE]:
                    with contextlib.suppress(OSError):
                        opened[pid] = os.pidfd_open(pid)
                members = set(own_processes(directory)) if opened else set()
                for pid, pidfd in opened.items():
                    if pid in members:
                        with contextlib.suppress(OSError):
                            signal.pidfd_send_signal(pidfd, number)
                            signalled.add(pid)
            finally:
                for pidfd in opened.values():
                    os.close(pidfd)
    return signalled


def path_of(pid: int | str = "self") -> str:
    """Return the cgroup2 path of a process, '' where it is gone."""
    try:
        text = _read(f"/proc/{pid}/cgroup")
    except OSError:
        return ""
    at = text.find("0::")
    return text[at + 3 :].partition("\n")[0] if at >= 0 else ""


def is_inside(path: str, folder: str) -> bool:
    """Tell whether a cgroup path is folder or below it."""
    return bool(path) and (path == folder or path.startswith(folder.rstrip("/") + "/"))


def remove(directory: str) -> bool:
    """Remove a cgroup and all below it, where nothing lives; tell whether it is gone.

    rmdir answers EBUSY until zombies are reaped: the caller tries again, or leaves it.
    """
    for name in children(directory):
        remove(f"{directory}/{name}")
    try:
        os.rmdir(directory)
    except OSError as error:
        return error.errno in GONE
    return True


class EmptinessWatch:
    """Waits until cgroups have no process left, by the kernel's own notice.

    ``cgroup.events`` raises POLLPRI when a value in it changes.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._poll = select.poll()
        self._open: dict[int, str] = {}
        self.left: set[str] = set()
        for directory in directories:
            try:
                fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in GONE:
                    continue
                self.close()
                raise
            self._open[fd] = directory
            self.left.add(directory)
            self._poll.register(fd, select.POLLPRI)
            self._look(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every descriptor."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()

    def wait(self, seconds: float) -> set[str]:
        """Wait until all are empty or the time is over; return those that are not."""
        deadline = time.monotonic() + seconds
        while self.left:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            for fd, _ in self._poll.poll(remaining * 1000):
                self._look(fd)
        return self.left

    def _look(self, fd: int) -> None:
        try:
            populated = b"populated 1" in os.pread(fd, 4096, 0)
        except OSError as error:
            if error.errno not in GONE:
                raise
            populated = False
        if not populated:
            self.left.discard(self._open.pop(fd))
            self._poll.unregister(fd)
            os.close(fd)
