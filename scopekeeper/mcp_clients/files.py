"""Reads a configuration and puts another text in its place, so that neither is ever half there.

The new text is written beside the file, with the file's own mode, owner and attributes, brought to
the disk and then renamed over it. What was there before is kept beside it under a name of its own.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from scopekeeper.errors import ConfigError

BACKUP = ".before-scopekeeper"
"""What the name of a backup has after that of the file; from the second on, a number follows."""

_MOST = 64 << 20
"""Bytes: more than even a client that keeps its history in its configuration has there."""


_ACL = "system.posix_acl"
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Original:
    """A file as it was read."""

    path: str
    """As it was given."""
    target: str
    """The file itself: where path is a symbolic link, the link stays."""
    raw: bytes
    status: os.stat_result

    def text(self) -> str:
        """Return it as text; raises ConfigError where it is not UTF-8."""
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
        # O_NONBLOCK: a FIFO is refused instead of waited for
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


def replace(original: Original, new: bytes) -> str:
    """Put new in the place of what was read, and return the path of the backup.

    Raises ConfigError; nothing has changed then.
    """
    path = os.path.dirname(original.target)
    try:
        # all goes through this descriptor: root may work in a folder that a user could exchange
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _refuse_changed(original, folder)
            _refuse(original, folder)
            backup = _replace(original, new, folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"{original.path}: nothing was changed: {error.strerror}") from None
    return os.path.join(path, backup)


def _replace(original: Original, new: bytes, folder: int) -> str:
    """Do it, in an opened folder; return the name of the backup."""
    with _written(original, new, folder) as ready:
        backup, is_new = _back_up(original, folder)
        try:
            _refuse_changed(original, folder)
            name = os.path.basename(original.target)
            os.rename(ready, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            # an interrupt can come right behind the rename
            if is_new and _exists(ready, folder):
                os.unlink(backup, dir_fd=folder)
            raise
    # should the new name be lost with the power, the old text is still there, whole
    with contextlib.suppress(OSError):
        _sync(folder)
    return backup


def _refuse(original: Original, folder: int) -> None:
    name = os.path.basename(original.target)
    if not os.access(name, os.W_OK, dir_fd=folder, effective_ids=True):
        raise ConfigError(f"{original.path}: may not be written")
    if original.status.st_nlink > 1:
        raise ConfigError(
            f"{original.path}: has {original.status.st_nlink} hard links",
            "the others would keep the old text: remove them, or make them symbolic links",
        )


def _refuse_changed(original: Original, folder: int) -> None:
    """Refuse what is not as it was read; the moment until the rename is all that is left open."""
    if not _is_as_read(original, folder):
        raise ConfigError(
            f"{original.path}: changed while it was worked on; nothing was written",
            "close the client, and call this again",
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
    """Make a file beside the original with its attributes, on the disk; removed if still there."""
    name = f".scopekeeper-{os.urandom(6).hex()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
            _dress(descriptor, original, folder)
            os.fsync(descriptor)
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _dress(descriptor: int, original: Original, folder: int) -> None:
    """Give a new file owner, mode and extended attributes (ACLs too) of the original.

    As far as the caller may. Where the group cannot be kept, another must not gain by it.
    """
    status = original.status
    mode = stat.S_IMODE(status.st_mode)
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, status.st_uid, -1)
    same_group = True
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
                continue  # it says what the group may
            # of some only root may write, of others nobody; one that is gone is no loss
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(source, name))
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(source)


def _back_up(original: Original, folder: int) -> tuple[str, bool]:
    """Keep what was read beside the file; return its name, and whether it was made just now.

    No file is ever overwritten. One that has the same in it already is taken as it is.
    """
    number = 1
    while True:
        name = os.path.basename(original.target) + BACKUP + (f"-{number}" if number > 1 else "")
        if not _exists(name, folder):
            with _written(original, original.raw, folder) as ready:
                try:
                    # a name that is there by now is not overwritten, as a rename would do
                    os.link(ready, name, src_dir_fd=folder, dst_dir_fd=folder,
                            follow_symlinks=False)  # fmt: skip
                except FileExistsError:
                    continue
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                        raise
                    # no hard links on this filesystem: the name is taken first
                    flags = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o600, dir_fd=folder))
                    os.rename(ready, name, src_dir_fd=folder, dst_dir_fd=folder)
            _sync(folder)
            return name, True
        if _has(name, folder, original.raw):
            return name, False
        number += 1


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _has(name: str, folder: int, raw: bytes) -> bool:
    """Whether a file has just this in it."""
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and file.read(len(raw) + 1) == raw


def _sync(folder: int) -> None:
    """Bring the names in a folder to the disk, where its filesystem can."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
