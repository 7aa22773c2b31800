"""The lock that makes a keeper the only one of its uid."""

import fcntl
import os
import time
from pathlib import Path

from scopekeeper import state
from scopekeeper.errors import ConflictError, StateError
from scopekeeper.pty.client import address
from scopekeeper.regular_files import open_regular

_LOOK, _PAUSE = 0.5, 0.02
"""Seconds: who only looks whether there is a keeper has the lock too, for a moment."""


def _path() -> Path:
    """Return where the lock is: beside the socket that it guards, where others cannot write."""
    return Path(address()).with_name("keeper.lock")


def only_one() -> int:
    """Return a descriptor that holds the lock; raises ConflictError where another has it.

    Raises StateError too.
    """
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
    """Tell whether this uid has a keeper now."""
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
