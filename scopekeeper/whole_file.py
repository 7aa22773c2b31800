"""Writes a file so that a reader sees the old content or the new content, whole.

The content goes into a new file in the same folder, which is then renamed. The new file has a
random name and must not exist, so no link, FIFO or file of another user is opened in its place.
"""

import contextlib
import os
from collections.abc import Callable, Iterator

TEMPORARY = ".scopekeeper-"
"""Prefix of the new file's name; a writer that is killed leaves the file behind."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def replace(
    path: str | os.PathLike[str], content: bytes, *, mode: int = 0o600, durable: bool = False
) -> None:
    """Put content at path, with this mode whatever the umask; raises OSError.

    A link at path is replaced, not followed. durable: once this returns, the content survives a
    power cut.
    """
    folder = os.path.dirname(path) or "."
    with written(folder, content, mode=mode, durable=durable) as new:
        os.rename(new, path)
        if durable:
            sync_folder(folder)


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
    name = f"{TEMPORARY}{os.urandom(6).hex()}.tmp"
    path, at = (name, folder) if isinstance(folder, int) else (os.path.join(folder, name), None)
    fd = os.open(path, _NEW, 0o600, dir_fd=at)
    try:
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(fd, left) :]
            os.fchmod(fd, mode)
            if finish is not None:
                finish(fd)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        yield path
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path, dir_fd=at)


def sync_folder(folder: str) -> None:
    """Bring the names in a folder to the disk; raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
