"""Open files that another process may have replaced.

Light enough for the hot path of ``run``: builtin modules only.

Every process of a user can write to that user's state folder. A FIFO or a device there would block
its reader, a link would lead elsewhere, another user's file could be forged, a huge one would fill
the memory. So open a file without following links and without blocking, and check it before reading
it. The OSError for a wrong file has one clause for people as its strerror.
"""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from typing import TypeAlias

    Path: TypeAlias = "str | bytes | PathLike[str]"

SMALL = 1 << 20
"""Bytes; more than a file of a few fields ever has."""
_SAFELY = posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
_EPERM = 1
_TYPE, _REGULAR = 0o170000, 0o100000
_TYPES = {
    0o010000: "a FIFO", 0o020000: "a device", 0o040000: "a directory", 0o060000: "a device",
    0o120000: "a symbolic link", 0o140000: "a socket",
}  # fmt: skip
_PIECE = 1 << 16


def open_regular(
    path: "Path",
    flags: int = posix.O_RDONLY,
    mode: int = 0o600,
    *,
    most: int = 0,
    follow: bool = False,
    any_owner: bool = False,
) -> int:
    """Open a regular file of this user or of root and return its descriptor; raises OSError.

    most: its longest size in bytes, 0 for no limit. follow: whether it may be a symbolic link.
    any_owner: whether it may be another user's, such as that of an installed package.
    """
    if not follow:
        flags |= posix.O_NOFOLLOW
    try:
        fd = posix.open(path, flags | _SAFELY, mode)
    except FileNotFoundError:
        raise
    except OSError:
        problem = "" if follow else problem_of(path)
        if problem:  # clearer than the kernel's error for a FIFO, a socket or a link
            raise _strange(problem, path) from None
        raise
    problem = _problem(posix.fstat(fd), most, any_owner)
    if problem:
        posix.close(fd)
        raise _strange(problem, path)
    return fd


def read(
    path: "Path", most: int = SMALL, *, follow: bool = False, any_owner: bool = False
) -> bytes:
    """Return the content of a regular file of this user or of root; raises OSError."""
    fd = open_regular(path, most=most, follow=follow, any_owner=any_owner)
    try:
        content = b""
        while len(content) <= most and (piece := posix.read(fd, _PIECE)):
            content += piece
    finally:
        posix.close(fd)
    if len(content) > most:  # it has grown since
        raise _strange(f"it has more than {most} bytes", path)
    return content


def problem_of(path: "Path", most: int = 0) -> str:
    """Return what is wrong with the file at path, '' if nothing is or it does not exist.

    For programs that open it by its name: those who can write to the folder can still replace it.
    """
    try:
        return _problem(posix.stat(path, follow_symlinks=False), most)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)


def _problem(found: posix.stat_result, most: int, any_owner: bool = False) -> str:
    kind = found.st_mode & _TYPE
    if kind != _REGULAR:
        return f"it is {_TYPES.get(kind, 'no regular file')}"
    if not any_owner and found.st_uid not in (0, posix.geteuid()):
        return f"it belongs to uid {found.st_uid}"
    if most and found.st_size > most:
        return f"it has {found.st_size} bytes, more than {most}"
    return ""


def _strange(problem: str, path: "Path") -> OSError:
    return OSError(_EPERM, problem, path)
