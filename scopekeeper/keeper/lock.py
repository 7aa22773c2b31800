"""The lock that makes a keeper the only one of its uid."""

import fcntl
import os
import tempfile
from pathlib import Path

from scopekeeper.errors import ConflictError
from scopekeeper.launch.rules import compiled_path


def _path() -> Path:
    """Return where the lock is: in the runtime directory, which others cannot write to."""
    compiled = compiled_path()
    if compiled:
        return Path(compiled).with_name("keeper.lock")
    return Path(tempfile.gettempdir(), f"scopekeeper-{os.getuid()}", "keeper.lock")


def only_one() -> int:
    """Return a descriptor that holds the lock; raises ConflictError where another has it."""
    path = _path()
    path.parent.mkdir(mode=0o755, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise ConflictError(f"{path.parent} belongs to another user", "remove it")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConflictError(
            f"a keeper of uid {os.getuid()} runs already", "look with: scopekeeper watch"
        ) from None
    return fd


def runs() -> bool:
    """Tell whether this uid has a keeper now."""
    try:
        fd = os.open(_path(), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
