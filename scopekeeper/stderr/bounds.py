"""Keeps the files of ``files`` small, and removes those of members that ended long ago.

A file that a member writes to cannot be replaced, since the member has it open. So its beginning is
freed in place: the kernel punches a hole, and what is appended next follows the old end as before.
The file then looks long, and takes little.
"""

import os
import time

from scopekeeper import regular_files
from scopekeeper.stderr import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 1 << 20
"""Bytes of each file that stay when its beginning is freed."""
MOST = 2 * KEPT
"""Bytes that a file may take before that."""
ALL = 256 << 20
"""Bytes of the files of all members that have ended."""
ENDED_KEPT = 1000
NOTES_KEPT = 10_000
AGE = 90 * 86_400
"""Seconds after which the history has forgotten a member, and its file goes (history.bounds)."""
_NEW = 60
"""Seconds: a file that was written to more recently may be one that a launch is about to lock."""
_BLOCK, _PAGE = 512, 4096


def shorten_all() -> bool:
    """Free the beginning of each file that takes too much; return whether any did.

    Raises StateError.
    """
    long = [path for path, seen in _entries(files.FILE) if _is_too_much(seen)]
    for path in long:
        _shorten(path)
    return bool(long)


def tidy() -> None:
    """Shorten all files, and remove those of the oldest ended members; raises StateError."""
    shorten_all()
    now, taken = time.time(), 0
    found = sorted(_entries(files.FILE), key=lambda each: -each[1].st_mtime)
    old = [each for each in found if now - each[1].st_mtime > _NEW and _has_ended(each[0])]
    for at, (path, seen) in enumerate(old):
        taken += seen.st_blocks * _BLOCK
        has_room = at < ENDED_KEPT and taken <= ALL and now - seen.st_mtime <= AGE
        if not (has_room and seen.st_size):
            _remove(path)
    notes = sorted(_entries(files.JOURNAL), key=lambda each: -each[1].st_mtime)
    for at, (path, seen) in enumerate(notes):
        if at >= NOTES_KEPT or now - seen.st_mtime > AGE:
            _remove(path)


def _entries(how: str) -> "Iterator[tuple[str, os.stat_result]]":
    """Yield the path and the status of each file of a folder that can be read."""
    try:
        with os.scandir(files.folder(how)) as found:
            for each in found:
                try:
                    yield each.path, each.stat(follow_symlinks=False)
                except OSError:
                    continue  # it was removed
    except OSError:
        return


def _shorten(path: str) -> None:
    """Leave the last KEPT bytes of a file that takes more than MOST."""
    try:
        fd = regular_files.open_regular(path, os.O_RDWR)
    except OSError:
        return  # it was removed, or is none of ours
    try:
        seen = os.fstat(fd)
        if _is_too_much(seen):
            from scopekeeper.kernel.punch_hole import punch_hole  # ctypes is slow

            end = (seen.st_size - KEPT) // _PAGE * _PAGE
            if not punch_hole(fd, end):
                os.ftruncate(fd, 0)  # this file system has no holes: better nothing than too much
    except OSError:
        pass  # a full disk, for one; the next look tries again
    finally:
        os.close(fd)


def _is_too_much(seen: os.stat_result) -> bool:
    return seen.st_blocks * _BLOCK > MOST and seen.st_size > KEPT


def _has_ended(path: str) -> bool:
    try:
        fd = regular_files.open_regular(path)
    except OSError:
        return False
    try:
        return not files.is_in_use(fd)
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # another process was faster
