"""Removes the new files of killed writers, which had not renamed them.

``whole_file`` keeps each locked while its writer lives: nobody finishes one that can be locked.
"""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Collection

from scopekeeper.whole_file import TEMPORARY

_NAME = re.compile(re.escape(TEMPORARY) + r"[0-9a-f]{12}\.tmp", re.ASCII)
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


def beside(path: str, *owners: int) -> list[str]:
    """Remove those of this user, and of other uids, beside a path; return their names."""
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return remove(folder, {os.geteuid(), *owners})
        finally:
            os.close(folder)
    return []


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
        if not (stat.S_ISREG(found.st_mode) and found.st_uid in owners):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder)
        return True
    finally:
        os.close(descriptor)
