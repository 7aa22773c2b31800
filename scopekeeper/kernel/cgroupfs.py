"""cgroupfs outside of the hot path: walk, read, signal, kill, remove.

Every function takes the directory it works on; nothing here knows where cgroupfs is mounted.
Reading a removed cgroup fails with ENOENT or ENODEV; that counts as gone and is not raised.

A member can nest cgroups in its own, at any depth and in any number, under names too long for a
path; it can take away the permission to read them, and make them threaded. So walks do not recurse,
stop at the bounds below, and report what they leave out.
"""

import contextlib
import errno
import os
import signal
from collections.abc import Iterable, Mapping, Sequence

from scopekeeper.data import dataclass
from scopekeeper.kernel import proc

GONE = (errno.ENOENT, errno.ENODEV)
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DEEPEST = 100
"""Levels that a walk descends; systemd in nested containers needs some twenty."""
LONGEST = 3_500
"""Longest path that a walk descends from: PATH_MAX (4,096) less the names of a scope and a leaf."""
_MOST_IN_A_SCOPE = 10_000
"""Cgroups read below one; a container that runs systemd has some hundred."""
_MOST_REMOVED = 200_000
"""Cgroups that one call removes, in some three seconds; the next call continues."""
_AT_ONCE = 200
"""Processes held open by pidfd at the same time."""
LINKS_OF_A_LEAF = 2
"""In kernfs each subdirectory adds a link to a directory's own two."""
_KILL_ROUNDS = 100
"""Attempts to kill the processes of a threaded cgroup, which refuses cgroup.kill."""
_WANTED_MODES = {
    "cgroup.procs": 0o600,
    "cgroup.threads": 0o600,
    "cgroup.events": 0o400,
    "cgroup.kill": 0o200,
    "memory.events": 0o400,
    "pids.max": 0o600,
}
"""The access to a cgroup's files that a stop needs."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A cgroup that could not be read, or that a walk left out with all below it, and why."""

    directory: str
    problem: str


def read(directory: str, name: str) -> str | None:
    """Return the text of a file of a cgroup or process, None if that is gone or unreadable."""
    try:
        return proc.read(f"{directory}/{name}")
    except OSError as error:
        # a process that ends between the open and the read gives ESRCH
        if error.errno in (*GONE, errno.ESRCH, errno.ENOTDIR, errno.EACCES, errno.EPERM):
            return None
        raise


def keyed(text: str | None, key: str) -> int | None:
    """Return the number after a key in text of ``key value`` lines, None if it has none."""
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return None


def write(directory: str, name: str, value: str) -> bool:
    """Write one value; False if the cgroup or the file does not exist; raises OSError."""
    try:
        proc.write(f"{directory}/{name}", value)
    except OSError as error:
        if error.errno in GONE:
            return False
        raise
    return True


def attribute(directory: str, name: str) -> bytes | None:
    """Return an extended attribute, None if it or the cgroup does not exist; raises OSError."""
    try:
        return proc.attribute(directory, name)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise


def children(directory: str) -> list[str]:
    """Return the names of the cgroups directly inside, none if it is gone; raises OSError."""
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
    """Return the pids directly in one cgroup; raises OSError if they cannot be read.

    A pid of another PID namespace reads as 0. A threaded cgroup lists only threads; then this
    returns their processes.
    """
    try:
        return [int(line) for line in proc.read(f"{directory}/cgroup.procs").split()]
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
    """Return the pids of a cgroup and all below it, by directory, the upper ones first.

    Cgroups that cannot be read, are too deep or too many are left out and added to unread. A
    process whose threads are in several cgroups is listed in the first of them.
    """
    found: dict[str, list[int]] = {}
    seen: set[int] = set()
    waiting = [directory]
    for path in waiting:  # grows in the loop
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
    """Add the cgroups directly inside of path to a walk that began with the first of waiting.

    Returns why they were left out, else ''; raises OSError.
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
    """Return whether a process lives in the subtree; a removed cgroup is empty.

    An unreadable cgroup counts as populated: nothing proves that it is empty.
    """
    try:
        return "populated 1" in proc.read(f"{directory}/cgroup.events")
    except OSError as error:
        return error.errno not in GONE and not isinstance(error, NotADirectoryError)


def kill(directory: str) -> None:
    """Kill the whole subtree at once, forks in progress included (cgroup.kill, Linux 5.14).

    First set the limit of tasks to 0, so that no new process can start. A threaded cgroup refuses
    cgroup.kill: kill its processes one by one until no new one appears.
    """
    with contextlib.suppress(OSError):
        write(directory, "pids.max", "0")
    with contextlib.suppress(OSError):
        if write(directory, "cgroup.kill", "1"):
            return
    for _ in range(_KILL_ROUNDS):
        if not signal_processes(processes_by_cgroup(directory), signal.SIGKILL):
            return


def thaw(directories: Iterable[str]) -> None:
    """Let the processes of frozen cgroups run, so that they can handle signals (cgroup.freeze)."""
    for directory in directories:
        with contextlib.suppress(OSError):
            if read(directory, "cgroup.freeze") == "1\n":
                write(directory, "cgroup.freeze", "0")


def gain_access(directory: str) -> None:
    """Unlock a cgroup that we may not read and write."""
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        unlock(directory)


def unlock(directory: str) -> None:
    """Restore our access to a cgroup and all below it, as far as our own uid owns them.

    A member can take it away, from itself and from us; root always has it.
    """
    waiting = [directory]
    for path in waiting:  # grows in the loop
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _unlock(fd)
            finally:
                os.close(fd)
            _await_children(path, waiting)


def _unlock(fd: int) -> None:
    """Unlock one cgroup by its descriptor, which may be an O_PATH one."""
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
    """Signal the processes that are still in the directory where they were found; return those.

    Open each pidfd first, then read the directory's members again. A process that is alive then,
    under a number that is still listed, is the listed one. If it died in between, its pidfd fails
    with ESRCH, even if another process has its number now.
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
    """Return the pids in a cgroup, none if it cannot be read."""
    try:
        return set(own_processes(directory))
    except OSError:
        return set()


def path_of(pid: int | str = "self") -> str:
    """Return the cgroup2 path of a process, '' if it has ended or cannot be read."""
    try:
        return proc.cgroup_of(pid)
    except (OSError, LookupError):
        return ""


def obstacle(directory: str) -> tuple[str, int] | None:
    """Return the first cgroup below a directory that only another uid can empty, and that uid.

    We can remove what is directly in a cgroup of ours, but nothing from a folder of another's.
    None for root, and if there is none.
    """
    uid, waiting = os.geteuid(), [directory]
    for path in waiting if uid else ():  # grows in the loop
        with contextlib.suppress(OSError):
            owner = os.stat(path).st_uid
            if owner != uid and children(path):
                return path, owner
            _await_children(path, waiting)
    return None


def how_to_remove(path: str, uid: int) -> str:
    """Return whose an obstacle is, and the command that removes it."""
    import shlex

    command = f"find {shlex.quote(path)} -depth -type d -exec rmdir {{}} +"
    return f"{path} belongs to uid {uid}; remove it as that user: {command}"


def remove(directory: str) -> bool:
    """Remove an empty cgroup and all below it; return whether it is gone.

    rmdir fails with EBUSY until zombies are reaped: the caller tries again, or leaves it.
    """
    if _rmdir(directory):
        return True
    fd = _enter(directory)
    if fd is None:
        return False
    # The levels from the top down to the open cgroup, each with its remaining subdirectories. Only
    # one cgroup is open and no path grows: ".." leads back, since cgroup2 cannot move a directory.
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
        pass  # another process removes it as well
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
    """Open a cgroup to remove what is in it; None if it cannot be opened."""
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
