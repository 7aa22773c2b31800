"""Walks and removes folders of any depth and with names of any length.

``os.walk`` recurses before Python 3.12, and a path has at most 4,096 bytes. Imports neither pytest
nor scopekeeper.
"""

import contextlib
import os
from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def below(top: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a folder and all below it whose path is short enough, from the top down."""
    waiting = [os.fspath(top)]
    for path in waiting:  # it grows meanwhile
        yield path
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def nest(top: str | os.PathLike[str], names: Iterator[str] | list[str]) -> int:
    """Create folders, each in the one before it; return a descriptor of the last."""
    fd = os.open(top, _FOLDER)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, _FOLDER, dir_fd=fd)
        os.close(fd)
        fd = inner
    return fd


def remove(top: str | os.PathLike[str]) -> bool:
    """Remove a folder and every empty folder in it; return True if it is gone."""
    try:
        fd = os.open(top, _FOLDER)
    except OSError:
        return not os.path.lexists(top)
    path, levels = [""], [_folders(fd)]
    while True:
        if levels[-1]:
            name = levels[-1].pop()
            try:
                with contextlib.suppress(OSError):
                    os.chmod(name, 0o755, dir_fd=fd)  # its permissions may have been taken away
                inner = os.open(name, _FOLDER, dir_fd=fd)
            except OSError:
                continue
            path.append(name)
            levels.append(_folders(inner))
        else:
            levels.pop()
            name = path.pop()
            if not levels:
                break
            inner = os.open("..", _FOLDER, dir_fd=fd)
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=inner)
        os.close(fd)
        fd = inner
    os.close(fd)
    with contextlib.suppress(OSError):
        os.rmdir(top)
    return not os.path.lexists(top)


def _folders(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
