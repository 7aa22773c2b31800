"""Reads a configuration file and replaces it atomically, with a backup.

The new text goes into a temporary file beside it, with the same mode, owner and attributes, is
synced to disk, and is then renamed over the file.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from scopekeeper import unfinished_files, whole_file
from scopekeeper.errors import ConfigError, StateError
from scopekeeper.mcp_configs import backups
from scopekeeper.mcp_configs.backups import Backup, IsOutdated

_MOST = 64 << 20
"""Bytes. Some clients keep their history in their configuration; even that is smaller."""

_STORES = ("/nix/store/", "/gnu/store/")
_ACL = "system.posix_acl"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Original:
    """A file as it was read."""

    path: str
    """The path as given."""
    target: str
    """The file itself. If path is a symbolic link, the link stays."""
    raw: bytes
    status: os.stat_result

    def text(self) -> str:
        """Return it as text; raises ConfigError if it is not UTF-8."""
        try:
            return self.raw.decode()
        except UnicodeDecodeError as error:
            line_start = self.raw.rfind(b"\n", 0, error.start) + 1
            line = self.raw.count(b"\n", 0, error.start) + 1
            column = len(self.raw[line_start : error.start].decode(errors="replace")) + 1
            raise ConfigError(f"{self.path}:{line}:{column}: this is not UTF-8") from None


def read(path: str) -> Original:
    """Read a file; raises ConfigError."""
    try:
        target = os.path.realpath(path, strict=True)
        # O_NONBLOCK: opening a FIFO must not block; it is refused below
        descriptor = os.open(target, _READ)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path}: not a file")
            if status.st_size > _MOST:
                raise ConfigError(f"{path}: larger than {_MOST >> 20} MiB")
            return Original(path, target, file.read(), status)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _never(_: bytes) -> bool:
    return False


def replace(
    original: Original, new: bytes, *, again: bool = False, is_outdated: IsOutdated = _never
) -> str:
    """Replace the file, and return the path of its backup.

    A backup of other content is replaced if it is outdated, and else kept. again is for a file
    that scopekeeper has rewritten before: any backup is enough. Raises ConfigError, with nothing
    changed.
    """
    try:
        # all goes through this descriptor: a user could exchange a folder that root works in
        folder = os.open(os.path.dirname(original.target), _FOLDER)
        try:
            _refuse_changed(original, folder)
            _refuse(original, folder)
            backup = _replace(original, new, folder, again=again, is_outdated=is_outdated)
            unfinished_files.remove(folder, {os.geteuid(), original.status.st_uid})
            return backup
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"{original.path}: nothing was changed: {error.strerror}") from None


def remove_unfinished(path: str) -> None:
    """Remove what killed writers have left beside a file and its backup.

    As far as possible; the file need not exist.
    """
    target = os.path.realpath(path)
    with contextlib.suppress(OSError, StateError):
        owner = os.stat(target).st_uid if os.path.exists(target) else os.geteuid()
        unfinished_files.beside(target, owner)
        unfinished_files.beside(backups.stored_at(target))


def check(original: Original) -> None:
    """Raise ConfigError if the file cannot be replaced, as far as that is known beforehand."""
    beside = os.path.dirname(original.target)
    try:
        folder = os.open(beside, _FOLDER)
        try:
            _refuse(original, folder)
            is_writable = os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"{original.path}: {error.strerror}") from None
    if not is_writable:
        raise ConfigError(f"{original.path}: is in a folder that may not be written")


def remove(original: Original) -> None:
    """Remove the file, if it is still as it was read; raises ConfigError."""
    try:
        folder = os.open(os.path.dirname(original.target), _FOLDER)
        try:
            _refuse_changed(original, folder)
            _refuse(original, folder)
            os.unlink(os.path.basename(original.target), dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"{original.path}: was not removed: {error.strerror}") from None


def _replace(
    original: Original, new: bytes, folder: int, *, again: bool, is_outdated: IsOutdated
) -> str:
    """Replace the file in an opened folder; return the path of the backup."""
    with (
        _written(original, new, folder) as ready,
        backups.opened(original.target, folder, make=True) as known,
    ):
        there = known.existing() if again else []
        if there:
            backup, is_new = there[0], False
        else:
            backup, is_new = known.keep(
                original.raw, lambda: _written(original, original.raw, folder), is_outdated
            )
        try:
            _refuse_changed(original, folder)
            name = os.path.basename(original.target)
            os.rename(ready, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            # if the rename was done, and an interrupt came right after, keep the backup
            if is_new and Backup("", ready, folder).exists():
                known.remove(backup)
            raise
    # if a power cut loses the rename, the old file is still there, whole
    with contextlib.suppress(OSError):
        backups.sync(folder)
    return backup.path


def _refuse(original: Original, folder: int) -> None:
    name = os.path.basename(original.target)
    if _is_generated(original):
        raise ConfigError(
            f"{original.path}: is a link to {original.target}, which is read-only",
            "change it in what generates it, such as the configuration of Home Manager",
        )
    if not os.access(name, os.W_OK, dir_fd=folder, effective_ids=True):
        raise ConfigError(f"{original.path}: {_why_not_written(folder)}")
    if original.status.st_nlink > 1:
        raise ConfigError(
            f"{original.path}: has {original.status.st_nlink} hard links",
            "the other links would keep the old text: remove them, or make them symbolic links",
        )


def _why_not_written(folder: int) -> str:
    read_only = os.fstatvfs(folder).f_flag & os.ST_RDONLY
    return "is on a file system that is mounted read-only" if read_only else "may not be written"


def _is_generated(original: Original) -> bool:
    """Return whether a file is part of a store that only its generator writes.

    Root may write it all the same, and the next generation would bring the old text back.
    """
    is_link = os.path.abspath(original.path) != original.target
    read_only = not original.status.st_mode & 0o222
    return is_link and (read_only or original.target.startswith(_STORES))


def _refuse_changed(original: Original, folder: int) -> None:
    """Refuse a file that changed since it was read; a change just before the rename is missed."""
    if not _is_as_read(original, folder):
        raise ConfigError(
            f"{original.path}: changed while it was worked on; nothing was written",
            "close the client, and run this again",
        )


def _is_as_read(original: Original, folder: int) -> bool:
    try:
        now = read(original.path)
        there = os.stat(os.path.basename(original.target), dir_fd=folder, follow_symlinks=False)
    except (ConfigError, OSError):
        return False
    return (
        now.raw == original.raw
        and os.path.samestat(now.status, original.status)
        and os.path.samestat(there, original.status)
    )


@contextlib.contextmanager
def _written(original: Original, content: bytes, folder: int) -> Iterator[str]:
    """Write and sync a temporary file with the original's attributes; remove it if not renamed."""

    def finish(descriptor: int) -> None:
        _copy_attributes(descriptor, original, folder)

    with whole_file.written(folder, content, durable=True, finish=finish) as ready:
        yield ready


def _copy_attributes(descriptor: int, original: Original, folder: int) -> None:
    """Copy owner, mode and extended attributes (with ACLs) as far as the caller may.

    If the group cannot be kept, the new group gets no permissions.
    """
    status = original.status
    mode = stat.S_IMODE(status.st_mode)
    now = os.fstat(descriptor)  # the keeper may not even give it to those who have it already
    if now.st_uid != status.st_uid:
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, status.st_uid, -1)
    same_group = True
    if now.st_gid != status.st_gid:
        try:
            os.fchown(descriptor, -1, status.st_gid)
        except PermissionError:
            same_group = False
            mode &= ~stat.S_IRWXG
    os.fchmod(descriptor, mode)
    source = os.open(os.path.basename(original.target), _READ, dir_fd=folder)
    try:
        for name in os.listxattr(source):
            if not same_group and name.startswith(_ACL):
                continue  # an ACL grants permissions to the group
            # some attributes only root may write, some nobody; others may be gone by now
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(source, name))
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(source)


def drop_backups(
    original: Original, new: bytes, is_outdated: IsOutdated = _never
) -> tuple[list[str], list[str]]:
    """Remove the backups that hold what the file holds now, and outdated ones.

    Returns the paths removed and kept.
    """
    removed: list[str] = []
    kept: list[str] = []
    try:
        folder = os.open(os.path.dirname(original.target), _FOLDER)
    except OSError:
        return [], []
    try:
        file = Backup(original.target, os.path.basename(original.target), folder)
        with backups.opened(original.target, folder) as known:
            for backup in known.existing():
                done = kept
                if _is_spare(backup.read(), new, is_outdated) and file.read() == new:
                    with contextlib.suppress(OSError):
                        known.remove(backup)
                        done = removed
                done.append(backup.path)
    finally:
        os.close(folder)
    return removed, kept


def _is_spare(content: bytes | None, new: bytes, is_outdated: IsOutdated) -> bool:
    return content is not None and (content == new or is_outdated(content))
