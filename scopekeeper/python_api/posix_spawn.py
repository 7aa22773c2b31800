"""posix_spawn(3) with a cgroup to be born in (glibc 2.39, Linux 5.7), through ctypes.

The C library starts the child and executes the program without running Python in between, which
makes it safe in a process with threads.
"""

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import signal
import time

from scopekeeper.kernel import proc
from scopekeeper.python_api.popen_arguments import Command

# spawn.h
_SETPGROUP, _SETSIGDEF, _SETSID, _SETCGROUP = 0x02, 0x04, 0x80, 0x100
_ROOM = 1024
"""Bytes for any of the C library's structures; they have 80, 128 and 336 (x86-64)."""
_FD_MOST = 1024
"""Highest descriptor to pass on: those below it are closed one by one."""
_LOOKS, _PAUSE = 10_000, 0.0005
"""How often to look at a child that has neither executed nor ended, and seconds between."""
_NOWHERE = b"x" * 8192
"""A path that execve(2) refuses with ENAMETOOLONG, which nothing before it does."""


class CannotPlaceError(Exception):
    """The kernel refuses a child in the leaf, whatever the program; ``number`` is the errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the C library; None where it has no cgroup attribute."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "posix_spawnattr_setcgroup_np"):
        return None
    number, address = ctypes.c_int, ctypes.c_void_p
    library.posix_spawnattr_setflags.argtypes = (address, ctypes.c_short)
    for name, arguments in (
        ("posix_spawnattr_setcgroup_np", (address, number)),
        ("posix_spawnattr_setpgroup", (address, number)),
        ("posix_spawn_file_actions_addfchdir_np", (address, number)),
        ("posix_spawn_file_actions_adddup2", (address, number, number)),
        ("posix_spawn_file_actions_addclose", (address, number)),
        ("posix_spawn_file_actions_addclosefrom_np", (address, number)),
    ):
        getattr(library, name).argtypes = arguments
    return library


def is_there() -> bool:
    """Return whether the C library can start a child in a cgroup."""
    return _library() is not None


def can_start(command: Command) -> bool:
    """Return whether posix_spawn(3) can do all that is asked for."""
    return is_there() and command.umask is None and max(command.pass_fds, default=0) <= _FD_MOST


def above(fd: int) -> int:
    """Return a copy of a descriptor above the standard ones; the caller closes it."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def spawn(leaf: int, command: Command, environment: dict[bytes, bytes]) -> tuple[int, int]:
    """Start a command in the cgroup that is open as ``leaf``.

    Returns a pid and 0, or 0 and the error that ``Popen`` would raise. Raises CannotPlaceError, and
    BlockingIOError or another OSError where the kernel has no room.
    """
    library = _library()
    if library is None:
        raise CannotPlaceError(errno.ENOSYS)
    opened: list[int] = []
    actions, attributes = (ctypes.create_string_buffer(_ROOM) for _ in range(2))
    library.posix_spawn_file_actions_init(actions)
    library.posix_spawnattr_init(attributes)
    try:
        _prepare_actions(library, actions, command, opened)
        _prepare_attributes(library, attributes, command, leaf)
        argv = (ctypes.c_char_p * (len(command.argv) + 1))(*command.argv, None)
        pairs = [name + b"=" + value for name, value in environment.items()]
        envp = (ctypes.c_char_p * (len(pairs) + 1))(*pairs, None)

        def attempt(program: bytes) -> tuple[int, int]:
            pid = ctypes.c_int()
            failed = library.posix_spawn(
                ctypes.byref(pid), ctypes.c_char_p(program), actions, attributes, argv, envp
            )
            if not failed and _was_killed_at_birth(pid.value):
                raise CannotPlaceError(errno.EOWNERDEAD)
            return (0, int(failed)) if failed else (pid.value, 0)

        first = last = 0
        for program in command.programs:
            pid, last = attempt(program)
            if pid:
                return pid, 0
            if last not in (errno.ENOENT, errno.ENOTDIR):
                first = first or last
        # The same errno may come from clone3 or from execve: a try with a path that cannot be
        # executed shows which.
        _, at_birth = attempt(_NOWHERE)
        if at_birth != errno.ENAMETOOLONG:
            if at_birth in (errno.EAGAIN, errno.ENOMEM):
                raise OSError(at_birth, os.strerror(at_birth))
            raise CannotPlaceError(at_birth)
        return 0, first or last
    finally:
        library.posix_spawn_file_actions_destroy(actions)
        library.posix_spawnattr_destroy(attributes)
        for fd in opened:
            os.close(fd)


def _was_killed_at_birth(pid: int) -> bool:
    """Return whether a child was killed before it executed anything; then reap it.

    Linux (seen with 6.18) kills a child of clone3(2) with CLONE_INTO_CGROUP if the cgroup of its
    parent has not been killed by ``cgroup.kill`` as often as its own, which is new: so it does
    where a gateway was started again in a cgroup that systemd had killed. posix_spawn(3) reports
    success.
    """
    with contextlib.suppress(OSError):
        # The kernel lets the parent go on when the child gives up its memory, in execve(2) or in
        # its exit: which of the two it was shows a moment later.
        for _ in range(_LOOKS):
            stat = proc.stat_of(pid)
            if stat is None or stat.has_executed:
                return False
            if stat.has_ended:
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_status != signal.SIGKILL:
                    return False
                os.waitpid(pid, 0)
                return True
            time.sleep(_PAUSE)
    return False


def _prepare_actions(
    library: ctypes.CDLL, actions: ctypes.Array[ctypes.c_char], command: Command, opened: list[int]
) -> None:
    """Add the changes of folder and descriptors; ``opened`` gets what is opened for them."""
    if command.cwd is not None:
        opened.append(os.open(command.cwd, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        _do(library.posix_spawn_file_actions_addfchdir_np(actions, opened[-1]))
    sources = []
    for fd in command.stdio:
        if fd >= 0:
            opened.append(above(fd))  # so that none is overwritten before it is copied
        sources.append(opened[-1] if fd >= 0 else -1)
    for target, fd in enumerate(sources):
        if fd >= 0:
            _do(library.posix_spawn_file_actions_adddup2(actions, fd, target))
    kept = command.pass_fds
    for fd in kept:
        _do(library.posix_spawn_file_actions_adddup2(actions, fd, fd))  # which clears CLOEXEC
    if command.close_fds:
        for fd in range(3, kept[-1] if kept else 3):
            if fd not in kept:
                _do(library.posix_spawn_file_actions_addclose(actions, fd))
        _do(library.posix_spawn_file_actions_addclosefrom_np(actions, kept[-1] + 1 if kept else 3))


def _prepare_attributes(
    library: ctypes.CDLL, attributes: ctypes.Array[ctypes.c_char], command: Command, leaf: int
) -> None:
    flags = _SETCGROUP | _SETSIGDEF
    _do(library.posix_spawnattr_setcgroup_np(attributes, leaf))
    signals = ctypes.create_string_buffer(_ROOM)
    library.sigemptyset(signals)
    for number in command.defaults:
        library.sigaddset(signals, number)
    _do(library.posix_spawnattr_setsigdefault(attributes, signals))
    if command.new_session:
        flags |= _SETSID
    if command.process_group >= 0:
        flags |= _SETPGROUP
        _do(library.posix_spawnattr_setpgroup(attributes, command.process_group))
    _do(library.posix_spawnattr_setflags(attributes, flags))


def _do(failed: int) -> None:
    if failed:
        raise OSError(failed, os.strerror(failed))
