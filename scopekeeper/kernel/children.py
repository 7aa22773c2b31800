"""The children of a process, of all its threads (CONFIG_PROC_CHILDREN)."""

import contextlib
import os

from scopekeeper.kernel import proc


def children_of(pid: int) -> list[int]:
    """Return the pids; none if that cannot be read, or the process has ended."""
    found = ""
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += proc.read(f"/proc/{pid}/task/{thread}/children")
    return [int(child) for child in found.split()]
