"""Writes a file so that a reader sees the old content or the new content, whole.

The content goes into a new file in the same folder, which has no name until it is whole, and is
then renamed. Its name is random and must not exist, so no link, FIFO or file of another user is
opened in its place. It has that name from the start if its filesystem has no unnamed files.

The writer holds a lock on a named new file until it is renamed, and the kernel drops the lock when
the writer dies: so a file of such a name that can be locked is the leftover of a killed writer.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

TEMPORARY = ".scopekeeper-"
"""Prefix of the new file's name; a writer that is killed before its rename leaves the file."""
_UNNAMED = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 3
_Fill = Callable[[int], None]


def replace(
    path: str | os.PathLike[str], content: bytes, *, mode: int = 0o600, durable: bool = False
) -> None:
    """Put content at path, with this mode whatever the umask; raises OSError.

    A link at path is replaced, not followed. durable: once this returns, the content survives a
    power cut.
    """
    folder = os.path.dirname(path) or "."
    try:
        with written(folder, content, mode=mode, durable=durable) as new:
            os.rename(new, path)
            if durable:
                sync_folder(folder)
    except OSError as error:  # which names the new file, or the folder
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextlib.contextmanager
def written(
    folder: str | int,
    content: bytes,
    *,
    mode: int = 0o600,
    durable: bool = False,
    finish: Callable[[int], None] | None = None,
) -> Iterator[str]:
    """Write a new file into a folder and yield its path; remove it unless it was renamed.

    folder may be a descriptor; the path is then a name in that folder. finish is called with the
    descriptor of the new file once it has its content and mode. Raises OSError.
    """

    def fill(fd: int) -> None:
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
        os.fchmod(fd, mode)
        if finish is not None:
            finish(fd)
        if durable:
            os.fsync(fd)

    with contextlib.ExitStack() as opened:
        at = folder
        if not isinstance(at, int):
            at = os.open(at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, at)
        fd, name = _new(at, fill)
        opened.callback(os.close, fd)  # which drops its lock
        try:
            yield name if isinstance(folder, int) else os.path.join(folder, name)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=at)


def _new(folder: int, fill: _Fill) -> tuple[int, str]:
    """Make and fill a new file in a folder; return its descriptor, locked, and its name."""
    # not every filesystem has unnamed files, and not every sandbox a /proc to name them by
    with contextlib.suppress(OSError):
        return _named_when_whole(folder, fill)
    for _ in range(_TRIES - 1):
        with contextlib.suppress(BlockingIOError):
            return _named_at_once(folder, fill)
    return _named_at_once(folder, fill)


def _name() -> str:
    return f"{TEMPORARY}{os.urandom(6).hex()}.tmp"


def _named_when_whole(folder: int, fill: _Fill) -> tuple[int, str]:
    fd = os.open(".", _UNNAMED, 0o600, dir_fd=folder)
    try:
        fill(fd)
        _lock(fd)
        name = _name()
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder, follow_symlinks=True)
    except BaseException:
        os.close(fd)
        raise
    return fd, name


def _named_at_once(folder: int, fill: _Fill) -> tuple[int, str]:
    """Do the same with a name from the start.

    Raises BlockingIOError if another writer has taken it for a leftover before it was locked.
    """
    name = _name()
    fd = os.open(name, _NEW, 0o600, dir_fd=folder)
    try:
        _lock(fd, is_named=True)
        fill(fd)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise
    return fd, name


def _lock(fd: int, *, is_named: bool = False) -> None:
    """Lock a new file; raises BlockingIOError if another writer has locked or removed it.

    On a filesystem without locks, nothing is removed as a leftover either.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return
    if is_named and not os.fstat(fd).st_nlink:
        raise BlockingIOError


def sync_folder(folder: str) -> None:
    """Bring the names in a folder to the disk; raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
