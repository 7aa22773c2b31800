"""Where the keeper of a uid listens, and the lock that makes it the only one."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from scopekeeper.errors import ConflictError, StateError
from scopekeeper.regular_files import open_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

_LONGEST = 108


def address() -> str:
    """Return where the keeper of this uid listens; raises StateError."""
    uid = os.geteuid()
    runtime = "/run" if uid == 0 else f"/run/user/{uid}"
    if os.path.isdir(runtime) and os.stat(runtime).st_uid == uid:
        return f"{runtime}/scopekeeper/keeper"
    from scopekeeper import state

    return f"{state.directory()}/keeper"


@contextlib.contextmanager
def reachable(path: str) -> Iterator[str]:
    """Give a path of a socket that fits into its address (108 bytes, unix(7)); raises OSError."""
    if len(os.fsencode(path)) < _LONGEST:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


_LOOK, _PAUSE = 0.5, 0.02
"""Seconds: ``runs`` holds the lock too, for a moment."""


def _path() -> "Path":
    """Return the path of the lock: beside the socket, where other users cannot write."""
    from pathlib import Path  # takes as long as the interpreter

    return Path(address()).with_name("keeper.lock")


def only_one() -> int:
    """Return a descriptor that holds the lock; raises StateError, ConflictError if it is held."""
    from scopekeeper import state

    path = _path()
    if path.parent == state.directory():
        state.make()
    path.parent.mkdir(mode=0o755, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise ConflictError(f"{path.parent} belongs to another user", "remove it")
    try:
        fd = open_regular(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}", "remove it") from None
    deadline = time.monotonic() + _LOOK
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_PAUSE)
                continue
            os.close(fd)
            raise ConflictError(
                f"a keeper of uid {os.getuid()} runs already", "look with: scopekeeper watch"
            ) from None
        return fd


def runs() -> bool:
    """Return whether this uid has a keeper now."""
    try:
        fd = open_regular(_path())
    except (OSError, StateError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
