"""cgroupfs for everything but the hot path: walk, read, signal, kill, wait, remove.

Every function takes the directory it works on; nothing here knows where cgroupfs is mounted.
Reading a cgroup that was removed answers ENOENT or ENODEV; that counts as gone and is not raised.

Whoever runs in a cgroup may nest others in it, as deep and as many as he likes, name them so that
no path reaches them, take the permission to read them away, and make them threaded. Walks have no
recursion and end at the bounds below; what they leave out is counted.
"""

import contextlib
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GONE = (errno.ENOENT, errno.ENODEV)
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DEEPEST = 100
"""Levels that a walk goes down; systemd in containers in containers has some twenty."""
LONGEST = 3_500
"""Characters of a path that a walk goes on from: PATH_MAX (4,096) less a scope's name and a
leaf's."""
_MOST_IN_A_SCOPE = 10_000
"""Cgroups that are read below one; a container with a systemd of its own has some hundred."""
_MOST_REMOVED = 200_000
"""Cgroups that one call removes, some three seconds' worth; what is left is for the next."""
_AT_ONCE = 200
"""Processes that are held open together."""
LINKS_OF_A_LEAF = 2
"""kernfs counts a directory's subdirectories as links, beside its name and its dot."""
_KILL_ROUNDS = 100
"""How often the processes of a threaded cgroup are killed, which has no cgroup.kill."""
_WANTED_MODES = {
    "cgroup.procs": 0o600,
    "cgroup.threads": 0o600,
    "cgroup.events": 0o400,
    "cgroup.kill": 0o200,
    "memory.events": 0o400,
    "pids.max": 0o600,
}
"""What a stop needs of a cgroup's files."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A cgroup that could not be read, or that was left out with all below it, and why."""

    directory: str
    problem: str


def read(directory: str, name: str) -> str | None:
    """Return the text of a cgroup's file, None where it is gone or may not be read."""
    try:
        return _read(f"{directory}/{name}")
    except OSError as error:
        if error.errno in GONE or isinstance(error, NotADirectoryError | PermissionError):
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


def children(directory: str) -> list[str]:
    """Return the names of the cgroups directly inside; none where it is gone; raises OSError."""
    try:
        if os.stat(directory).st_nlink <= LINKS_OF_A_LEAF:
            return []
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in GONE:
            return []
        raise


def own_processes(directory: str) -> list[int]:
    """Return the pids directly in one cgroup; raises OSError where they cannot be read.

    A pid of another PID namespace reads as 0. A threaded cgroup lists threads only: the process of
    each is returned.
    """
    try:
        return [int(line) for line in _read(f"{directory}/cgroup.procs").split()]
    except OSError as error:
        if error.errno in GONE:
            return []
        if error.errno != errno.EOPNOTSUPP:
            raise
    threads = (read(directory, "cgroup.threads") or "").split()
    found = (keyed((read(f"/proc/{tid}", "status") or "").replace(":\t", " "), "Tgid")
             for tid in threads)  # fmt: skip
    return list(dict.fromkeys(pid for pid in found if pid is not None))


def processes(directory: str, unread: list[Unread] | None = None) -> list[int]:
    """Return the pids of a cgroup and all below it; see processes_by_cgroup."""
    return [pid for pids in processes_by_cgroup(directory, unread).values() for pid in pids]


def processes_by_cgroup(directory: str, unread: list[Unread] | None = None) -> dict[str, list[int]]:
    """Return the pids of a cgroup and all below it, by the directory that they are in.

    The upper ones come first. What cannot be read, and what is too deep or too much, is left out
    and added to unread. A process whose threads are in several cgroups is in the first of them.
    """
    found: dict[str, list[int]] = {}
    seen: set[int] = set()
    waiting = [directory]
    for path in waiting:  # which grows meanwhile
        try:
            pids = own_processes(path)
            if seen:
                pids = [pid for pid in pids if pid not in seen or not pid]
            found[path] = pids
            problem = _await_children(path, waiting)
            if len(waiting) > 1:
                seen.update(pids)
        except OSError as error:
            problem = error.strerror or str(error)
        if problem and unread is not None:
            unread.append(Unread(path, problem))
    return found


def _await_children(path: str, waiting: list[str]) -> str:
    """Add what is directly inside of path to a walk that began with the first of waiting.

    Returns why it was left out, else ''; raises OSError.
    """
    names = children(path)
    if not names:
        return ""
    if path.count("/") - waiting[0].count("/") >= DEEPEST or len(path) > LONGEST:
        return "nested too deep"
    if len(waiting) + len(names) > _MOST_IN_A_SCOPE:
        return f"more than {_MOST_IN_A_SCOPE:,} cgroups"
    waiting += [f"{path}/{name}" for name in names]
    return ""


def is_populated(directory: str) -> bool:
    """Tell whether any process lives in the subtree; a removed cgroup has none.

    One that cannot be read may have: nobody proved that it is empty.
    """
    try:
        return "populated 1" in _read(f"{directory}/cgroup.events")
    except OSError as error:
        return error.errno not in GONE and not isinstance(error, NotADirectoryError)


def kill(directory: str) -> None:
    """Kill the whole subtree at once, forks in progress included (cgroup.kill, Linux 5.14).

    No new process can come to be meanwhile: the limit of tasks goes to 0 first. A threaded cgroup
    cannot be killed as one: there its processes are, until no new one appears.
    """
    with contextlib.suppress(OSError):
        write(directory, "pids.max", "0")
    with contextlib.suppress(OSError):
        write(directory, "cgroup.kill", "1")
        return
    for _ in range(_KILL_ROUNDS):
        if not signal_processes(processes_by_cgroup(directory), signal.SIGKILL):
            return


def gain_access(directory: str) -> None:
    """Unlock a cgroup if we may not read and change it."""
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        unlock(directory)


def unlock(directory: str) -> None:
    """Give us back the access to a cgroup, and to all below it, as far as it is our own uid's.

    A member may have taken it away, from itself and from us; root has it anyway.
    """
    waiting = [directory]
    for path in waiting:  # which grows meanwhile
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _unlock(fd)
            finally:
                os.close(fd)
            _await_children(path, waiting)


def _unlock(fd: int) -> None:
    """Unlock one cgroup that is open, maybe as a mere path."""
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        return
    if status.st_mode & 0o700 != 0o700:
        os.chmod(f"/proc/self/fd/{fd}", status.st_mode & 0o777 | 0o700)
    for name, wanted in _WANTED_MODES.items():
        with contextlib.suppress(OSError):
            mode = os.stat(name, dir_fd=fd).st_mode & 0o777
            if mode & wanted != wanted:
                os.chmod(name, mode | wanted, dir_fd=fd)


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
                members = _members(directory) if opened else set()
                for pid, pidfd in opened.items():
                    if pid in members:
                        with contextlib.suppress(OSError):
                            signal.pidfd_send_signal(pidfd, number)
                            signalled.add(pid)
            finally:
                for pidfd in opened.values():
                    os.close(pidfd)
    return signalled


def _members(directory: str) -> set[int]:
    """Return the pids in a cgroup as far as that can be proved."""
    try:
        return set(own_processes(directory))
    except OSError:
        return set()


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
    if _rmdir(directory):
        return True
    fd = _enter(directory)
    if fd is None:
        return False
    # where we are, from the top down: what is still to be looked at there. No path grows, and only
    # one cgroup is open: ".." is the way back, since none can be moved (cgroup version 2)
    levels = [("", _folders(fd))]
    left = _MOST_REMOVED
    try:
        while left:
            left -= 1
            name, inside = levels[-1]
            if not inside:
                levels.pop()
                if not levels:
                    break
                above = os.open("..", FOLDER, dir_fd=fd)
                os.close(fd)
                fd = above
                _rmdir(name, fd)
            elif not _rmdir(inside[-1], fd) and (below := _enter(inside[-1], fd)) is not None:
                levels.append((inside.pop(), _folders(below)))
                os.close(fd)
                fd = below
            else:
                inside.pop()
    except OSError:
        pass  # somebody else removes it too
    finally:
        os.close(fd)
    return _rmdir(directory)


def _rmdir(name: str, fd: int | None = None) -> bool:
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        return error.errno in GONE
    return True


def _enter(name: str, fd: int | None = None) -> int | None:
    """Open a cgroup to remove what is in it; None where that cannot be."""
    try:
        return os.open(name, FOLDER, dir_fd=fd)
    except PermissionError:
        pass
    except OSError:
        return None
    with contextlib.suppress(OSError):
        path = os.open(name, os.O_PATH | FOLDER, dir_fd=fd)
        try:
            _unlock(path)
        finally:
            os.close(path)
        return os.open(name, FOLDER, dir_fd=fd)
    return None


def _folders(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
