"""Keeps what a configuration held before it was rewritten: one backup for each file.

It lies beside the file. That of a file in a git work tree, where ``git add`` would take it, lies
below the state folder, at the same path: STATE/backups/home/ann/shop/.mcp.json.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scopekeeper import state, whole_file
from scopekeeper.errors import ConfigError, StateError
from scopekeeper.mcp_configs.git import in_work_tree

SUFFIX = ".before-scopekeeper"
FOLDER = "backups"
"""The folder below the state folder."""
_NUMBER = re.compile(r"(?:-[0-9]+)?")
"""After the suffix; earlier versions made more than one backup."""
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_NEW = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)

IsOutdated = Callable[[bytes], bool]
"""Returns whether a backup of this content is no longer needed."""
Written = Callable[[], contextlib.AbstractContextManager[str]]
"""Writes the backup into the folder of the file under a temporary name, and yields that."""


@dataclass(frozen=True, slots=True)
class Backup:
    """The path of a backup, and the same in an opened folder."""

    path: str
    name: str
    folder: int

    def exists(self) -> bool:
        """Return whether anything has this path."""
        try:
            os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def read(self) -> bytes | None:
        """Return its content; None if it cannot be read, or is not a file."""
        try:
            with open(os.open(self.name, _READ, dir_fd=self.folder), "rb") as file:
                is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                return file.read() if is_file else None
        except OSError:
            return None


@dataclass(frozen=True, slots=True)
class Backups:
    """The backups of one file; its folders are opened."""

    target: str
    beside: int
    """The folder of the file."""
    stored: int | None
    """Its folder below the state folder, if there is one."""
    is_stored: bool
    """Whether a new backup lies there."""

    def main(self) -> Backup:
        """Return the only backup that is ever written."""
        folder, name = os.path.split(self.target)
        if self.is_stored and self.stored is not None:
            return Backup(stored_at(self.target), name, self.stored)
        name += SUFFIX
        return Backup(os.path.join(folder, name), name, self.beside)

    def existing(self) -> list[Backup]:
        """Return all that there are, the main one first."""
        folder, name = os.path.split(self.target)
        start = name + SUFFIX
        names = [each for each in os.listdir(self.beside) if each.startswith(start)
                 and _NUMBER.fullmatch(each.removeprefix(start))]  # fmt: skip
        found = [Backup(os.path.join(folder, each), each, self.beside)
                 for each in sorted(names, key=lambda each: (len(each), each))]  # fmt: skip
        if self.stored is not None:
            there = Backup(stored_at(self.target), name, self.stored)
            found[:0] = [there] if there.exists() else []
        return found

    def keep(self, raw: bytes, written: Written, is_outdated: IsOutdated) -> tuple[Backup, bool]:
        """Return the backup, and whether it is new. It holds raw, unless an older one is needed.

        Raises ConfigError if something else has its name.
        """
        backup = self.main()
        while not backup.exists():
            with contextlib.suppress(FileExistsError):
                self._write(backup, raw, written)
                return backup, True
        old = backup.read()
        if old is None:
            raise ConfigError(f"{backup.path}: is in the way of the backup", "move it away")
        if old != raw and is_outdated(old):
            with self._new(backup, raw, written) as (ready, folder):
                os.rename(ready, backup.name, src_dir_fd=folder, dst_dir_fd=backup.folder)
            sync(backup.folder)
        return backup, False

    @contextlib.contextmanager
    def _new(self, backup: Backup, raw: bytes, written: Written) -> Iterator[tuple[str, int]]:
        """Write it under a temporary name; yield that and its folder."""
        if backup.folder == self.beside:
            with written() as ready:
                yield ready, self.beside
        else:
            with whole_file.written(backup.folder, raw, durable=True) as ready:
                yield ready, backup.folder

    def _write(self, backup: Backup, raw: bytes, written: Written) -> None:
        """Write a new backup; raises FileExistsError."""
        with self._new(backup, raw, written) as (ready, folder):
            try:
                # unlike rename, link does not overwrite a file that just appeared
                os.link(ready, backup.name, src_dir_fd=folder, dst_dir_fd=folder,
                        follow_symlinks=False)  # fmt: skip
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                # no hard links on this filesystem: reserve the name first
                os.close(os.open(backup.name, _NEW, 0o600, dir_fd=folder))
                os.rename(ready, backup.name, src_dir_fd=folder, dst_dir_fd=folder)
        sync(backup.folder)

    def remove(self, backup: Backup) -> None:
        """Remove one, and the folders below the state folder that only it needed."""
        os.unlink(backup.name, dir_fd=backup.folder)
        if backup.folder == self.beside:
            return
        folder, top = os.path.dirname(backup.path), str(state.directory())
        with contextlib.suppress(OSError):
            while len(folder) > len(top):
                os.rmdir(folder)
                folder = os.path.dirname(folder)


@contextlib.contextmanager
def opened(target: str, beside: int, *, make: bool = False) -> Iterator[Backups]:
    """Open the backups of a file; with make, also the folder for a new one. Raises ConfigError."""
    is_stored = in_work_tree(target)
    stored = None
    try:
        folder = os.path.dirname(stored_at(target))
        if make and is_stored:
            _make_private(folder, state.make())
        with contextlib.suppress(FileNotFoundError):
            stored = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (StateError, OSError) as error:
        if make and is_stored:
            words = error.message if isinstance(error, StateError) else error.strerror
            raise ConfigError(f"{target}: nothing was changed: no place for its backup: {words}",
                              "set SCOPEKEEPER_STATE to a folder that only you can write to",
                              ) from None  # fmt: skip
    try:
        yield Backups(target, beside, stored, is_stored)
    finally:
        if stored is not None:
            os.close(stored)


def paths_of(target: str) -> list[str]:
    """Return the backups that a file has; raises OSError."""
    folder = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with opened(target, folder) as known:
            return [each.path for each in known.existing()]
    finally:
        os.close(folder)


def stored_at(target: str) -> str:
    """Return where a file's backup is below the state folder, if it is there; raises StateError."""
    return os.path.join(state.directory(), FOLDER, target.lstrip("/"))


def _make_private(folder: str, top: Path) -> None:
    """Make a folder and those above it below top, for this user only; os.makedirs does not."""
    for each in reversed([Path(folder), *Path(folder).parents]):
        if each.is_relative_to(top):
            each.mkdir(0o700, exist_ok=True)


def sync(folder: int) -> None:
    """Sync the names in a folder to disk, if its filesystem can."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
