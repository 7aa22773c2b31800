"""The children of a process, of all its threads (CONFIG_PROC_CHILDREN)."""

import contextlib
import os

from scopekeeper.kernel import proc

_LINKS_OF_ONE = 3
"""Links of the folder of a single thread: each thread adds one to a directory's own two."""


def children_of(pid: int) -> list[int]:
    """Return the pids; none if that cannot be read, or the process has ended."""
    found, folder = "", f"/proc/{pid}/task"
    with contextlib.suppress(OSError):
        is_single = os.stat(folder).st_nlink == _LINKS_OF_ONE
        for thread in [str(pid)] if is_single else os.listdir(folder):
            found += proc.read(f"{folder}/{thread}/children")
    return [int(child) for child in found.split()]
