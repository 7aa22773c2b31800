"""Measure a folder without following links, leaving its mount, or taking long.

Its processes may change it meanwhile, and may have made it to mislead: so each folder is opened
relative to the one before, none through a link, and only so many entries are looked at.
"""

import os
import stat
from dataclasses import dataclass

from scopekeeper.kernel import mounts
from scopekeeper.quantities import show_bytes

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK = 512
"""Bytes of st_blocks, whatever the file system's own blocks are (inode(7))."""
_DEEPEST = 64
"""Folders that are open at once."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much a folder takes on its file system."""

    bytes: int
    complete: bool
    """False if there is more: too many entries, too deep, not readable, or on another mount."""
    entries: int

    @property
    def shown(self) -> str:
        """For people; ``≥`` if there is more."""
        return ("" if self.complete else "≥") + show_bytes(self.bytes)


def measure(fd: int, most: int) -> Size:
    """Return the size of the folder open under a descriptor; gives up after so many entries.

    Its own entry does not count, and a file with several names counts once.
    """
    walk = _Walk(fd)
    try:
        while walk.levels and walk.entries <= most:
            walk.step()
        return Size(walk.bytes, walk.complete and not walk.levels, walk.entries)
    finally:
        walk.close()


class _Walk:
    """A walk through a folder, one entry at each step."""

    def __init__(self, fd: int) -> None:
        self.bytes = self.entries = 0
        self.complete = True
        self.levels: list[_Level] = []
        self._linked: set[tuple[int, int]] = set()
        """The files with several names that are counted."""
        self._mount = mounts.of_descriptor(fd)
        self._enter(os.dup(fd))

    def close(self) -> None:
        while self.levels:
            self._leave()

    def step(self) -> None:
        """Count the next entry, or leave a folder that has no more."""
        level = self.levels[-1]
        entry = next(level.inside, None)
        if entry is None:
            self._leave()
            return
        self.entries += 1
        try:
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                self._count_folder(level, entry.name, found)
            elif self._is_first_name(found):
                self.bytes += found.st_blocks * _BLOCK
        except FileNotFoundError:
            pass  # it was removed meanwhile
        except OSError:
            self.complete = False

    def _count_folder(self, level: "_Level", name: str, found: os.stat_result) -> None:
        if len(self.levels) == _DEEPEST:
            self.complete = False
            return
        inner = os.open(name, _OPEN, dir_fd=level.fd)
        if mounts.of_descriptor(inner) != self._mount:
            os.close(inner)
            self.complete = False
            return
        self.bytes += found.st_blocks * _BLOCK
        self._enter(inner)

    def _is_first_name(self, found: os.stat_result) -> bool:
        if found.st_nlink == 1:
            return True
        key = found.st_dev, found.st_ino
        is_first = key not in self._linked
        self._linked.add(key)
        return is_first

    def _enter(self, fd: int) -> None:
        try:
            self.levels.append(_Level(fd, os.scandir(fd)))
        except BaseException:
            os.close(fd)
            raise

    def _leave(self) -> None:
        level = self.levels.pop()
        level.inside.close()
        os.close(level.fd)


@dataclass(frozen=True, slots=True)
class _Level:
    """A folder that is being read."""

    fd: int
    inside: "os._ScandirIterator[str]"
