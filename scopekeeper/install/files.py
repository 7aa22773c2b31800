"""Writes and removes whole files and their folders; each step returns a function that undoes it."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from scopekeeper import regular_files, whole_file

_MOST = 64 << 20
"""Bytes of a file in the place of an installed one."""
_MADE = "user.scopekeeper.made"
"""The attribute of a folder that was made here: an empty one may have been there before."""


def read(path: str) -> bytes | None:
    """Return the content of a path, through links; None if nothing is there; raises OSError."""
    try:
        return regular_files.read(path, _MOST, follow=True, any_owner=True)
    except (FileNotFoundError, NotADirectoryError):
        # a dangling link exists all the same
        return b"" if os.path.islink(path) else None


def put(path: str, content: bytes) -> Callable[[], None]:
    """Write a file, mode 0644 whatever the umask; return what undoes it. Raises OSError."""
    restore = _as_it_is(path)
    made = make_folders(os.path.dirname(path))
    try:
        whole_file.replace(path, content, mode=0o644, durable=True)
    except BaseException:
        remove_folders(made)
        raise

    def undo() -> None:
        os.unlink(path)
        restore()
        remove_folders(made)

    return undo


def link(path: str, target: str) -> Callable[[], None]:
    """Make a link, also in place of what is there; return what undoes it. Raises OSError."""
    restore = _as_it_is(path)
    made = make_folders(os.path.dirname(path))
    beside = _new_link(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)  # of one that was killed
        os.symlink(target, beside)
        os.rename(beside, path)
    except BaseException:
        remove_folders(made)
        raise

    def undo() -> None:
        os.unlink(path)
        restore()
        remove_folders(made)

    return undo


def take(path: str) -> Callable[[], None]:
    """Remove a file; return what undoes it. Raises OSError."""
    restore = _as_it_is(path)
    os.unlink(path)
    with contextlib.suppress(OSError):
        os.unlink(_new_link(path))
    return restore


def _new_link(path: str) -> str:
    """Return where a link is made before it is renamed; one that was killed may leave it."""
    folder, name = os.path.split(path)
    return f"{folder}/{whole_file.TEMPORARY}{name}"


def _as_it_is(path: str) -> Callable[[], None]:
    """Return a function that restores a path once nothing is there; raises OSError."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return lambda: None
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(path)
        return lambda: os.symlink(target, path)
    content = regular_files.read(path, _MOST, any_owner=True)

    def again() -> None:
        with open(path, "xb") as new:  # fails if somebody else has put a file there
            os.fchmod(new.fileno(), stat.S_IMODE(status.st_mode))
            new.write(content)
            new.flush()
            os.fsync(new.fileno())

    return again


def make_folders(path: str) -> list[str]:
    """Make a folder and its parents, mode 0755; return those that were made.

    OpenClaw 2026.9 refuses plugins and units that a group may write, which a umask may allow.
    """
    if os.path.isdir(path):
        return []
    made = make_folders(os.path.dirname(path))
    try:
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)  # noqa: S103  the umask may have removed some of these bits
        with contextlib.suppress(OSError):  # not on every file system
            os.setxattr(path, _MADE, b"1")
    except OSError:
        remove_folders(made)
        raise
    return [*made, path]


def remove_folders(folders: list[str]) -> None:
    """Remove folders, the last first, unless they contain something."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def prune(folder: str, base: str) -> None:
    """Remove a folder and its parents below base that were made here, up to the first other one.

    That is not empty, or was there before. Where folders have no attributes, all count as made.
    """
    while folder.startswith(f"{base}/") and not _was_there(folder):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:
            return
        folder = os.path.dirname(folder)


def _was_there(folder: str) -> bool:
    try:
        os.getxattr(folder, _MADE)
    except OSError as error:
        return error.errno == errno.ENODATA
    return False
