"""New files of writers that were killed before they renamed them: copies of configurations.

Each writer holds a lock on its new file until that has its name, and the kernel drops the lock when
the writer dies. A file of such a name that can be locked is therefore one that nobody finishes.
"""

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Collection

from scopekeeper.whole_file import TEMPORARY

_NAME = re.compile(re.escape(TEMPORARY) + r"[0-9a-f]{12}\.tmp", re.ASCII)
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_SECONDS = 5.0
"""A writer locks its file right after it has made it. One that is slower fails, and says so: it
finds no file to rename."""


def lock(descriptor: int) -> int:
    """Lock a new file, and return the descriptor to close once it has its name."""
    held = os.dup(descriptor)
    with contextlib.suppress(OSError):  # a filesystem without locks: its files are not removed
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


def remove(folder: int, owners: Collection[int]) -> list[str]:
    """Remove those of some uids from an opened folder, as far as possible; return their names."""
    removed = []
    with contextlib.suppress(OSError):
        for name in filter(_NAME.fullmatch, os.listdir(folder)):
            with contextlib.suppress(OSError):
                if _remove(folder, name, owners):
                    removed.append(name)
    return removed


def _remove(folder: int, name: str, owners: Collection[int]) -> bool:
    descriptor = os.open(name, _READ, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        is_old = time.time() - found.st_mtime > _SECONDS
        if not (stat.S_ISREG(found.st_mode) and found.st_uid in owners and is_old):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder)
        return True
    finally:
        os.close(descriptor)
