"""Finds the fix for an error of the system from the error alone."""

import errno
import os

from scopekeeper.errors import NO_SOCKETS, READ_ONLY, ScopekeeperError, words

_SANDBOX = "ProtectProc=, ProcSubset=, ProtectHome=, InaccessiblePaths="
_BY_ERRNO = {
    errno.EMFILE: "ulimit -n 1024, or raise LimitNOFILE= of the service",
    errno.ENFILE: "sysctl fs.file-max=1000000",
    errno.EAGAIN: "ulimit -u 4096, or raise LimitNPROC= and TasksMax= of the service",
    errno.EAFNOSUPPORT: NO_SOCKETS,
    errno.EROFS: READ_ONLY,
    errno.ENOSPC: "free space on the disk: df -h",
    errno.ENOMEM: "give it more memory: raise MemoryMax= of the service",
}
_USERS_BITS = 0o700


def remedy(error: Exception) -> str:
    """Return the command or setting that fixes an error; '' if none is known."""
    if isinstance(error, ScopekeeperError):
        return "" if "scopekeeper doctor" in error.hint else error.hint
    if isinstance(error, OSError):
        if error.errno in _BY_ERRNO:
            return _BY_ERRNO[error.errno]
        if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT):
            path = error.filename or "that path"
            return _umask_remedy() or f"let the service see {path}: no {_SANDBOX}"
    return ""


def detail(error: Exception) -> str:
    """Return the error without its hint."""
    return error.message if isinstance(error, ScopekeeperError) else words(error)


def remedy_by_words(text: str) -> str:
    """Return the fix for an error that another process printed; '' if none is known."""
    for number, known in _BY_ERRNO.items():
        if os.strerror(number) in text:
            return known
    return _umask_remedy() if os.strerror(errno.EACCES) in text else ""


def _umask_remedy() -> str:
    """Return the fix for a umask that denies users their own new files; '' for other umasks."""
    mask = os.umask(0o777)
    os.umask(mask)
    return "umask 022" if mask & _USERS_BITS else ""
