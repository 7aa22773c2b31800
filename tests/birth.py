"""Starts a child in a cgroup, as Go and Bun do: clone3(2) with CLONE_INTO_CGROUP (Linux 5.7)."""

import ctypes
import os
import struct
from collections.abc import Callable, Mapping, Sequence

from tests.machine import MOUNT, cgroup_of

_CLONE3 = 435
_INTO_CGROUP = 0x200000000
_SIGCHLD = 17
_SIZE = 88
"""Bytes of struct clone_args with its field ``cgroup``."""


def _clone(cgroup: int) -> int:
    """Return the child's pid, and 0 in the child; raises OSError."""
    arguments = ctypes.create_string_buffer(_SIZE)
    struct.pack_into("<Q", arguments, 0, _INTO_CGROUP)
    struct.pack_into("<Q", arguments, 32, _SIGCHLD)
    struct.pack_into("<Q", arguments, 80, cgroup)
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    pid = int(library.syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_size_t(_SIZE)))
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid


def bear(
    cgroup: int | str,
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    before: Callable[[int], object] = lambda _: None,
) -> tuple[int, str]:
    """Start a command in a cgroup, given by descriptor or directory.

    Returns its pid, and the directory of the cgroup in which it was before it had done anything.
    The caller reaps it. before is called with the pid while the child waits.
    """
    opened = -1
    if isinstance(cgroup, str):
        cgroup = opened = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    ours, theirs = os.pipe()
    try:
        pid = _clone(cgroup)
        if not pid:
            try:
                os.close(theirs)
                os.read(ours, 1)  # until the observer has looked
                os.execvpe(
                    command[0], list(command), os.environ if environment is None else environment
                )
            finally:
                os._exit(127)
        born_in = MOUNT + cgroup_of(pid)
        before(pid)
    finally:
        os.close(theirs)
        os.close(ours)
        if opened >= 0:
            os.close(opened)
    return pid, born_in
