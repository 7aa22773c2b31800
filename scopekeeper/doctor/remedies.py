"""What mends an error that the system gave, as far as that can be told from the error."""

import errno
import os

from scopekeeper.errors import ScopekeeperError, words

_SANDBOX = "ProtectProc=, ProcSubset=, ProtectHome=, InaccessiblePaths="
_BY_ERRNO = {
    errno.EMFILE: "ulimit -n 1024, or LimitNOFILE= of its service",
    errno.ENFILE: "sysctl fs.file-max=1000000",
    errno.EAGAIN: "ulimit -u 4096, or LimitNPROC= and TasksMax= of its service",
    errno.EAFNOSUPPORT: "RestrictAddressFamilies=AF_UNIX AF_NETLINK in its service",
    errno.EROFS: "take ReadOnlyPaths= and ProtectControlGroups= out of its service",
    errno.ENOSPC: "make room on the disk: df -h",
    errno.ENOMEM: "give it more memory: MemoryMax= of its service",
}
_USERS_BITS = 0o700


def remedy(error: Exception) -> str:
    """Return the command, or the setting, that mends an error; '' where nothing is known."""
    if isinstance(error, ScopekeeperError):
        return "" if "scopekeeper doctor" in error.hint else error.hint
    if isinstance(error, OSError):
        if error.errno in _BY_ERRNO:
            return _BY_ERRNO[error.errno]
        if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT):
            return _of_mask() or (f"let its service see {error.filename or 'that'}: no {_SANDBOX}")
    return ""


def detail(error: Exception) -> str:
    """Return what went wrong, without what mends it."""
    return error.message if isinstance(error, ScopekeeperError) else words(error)


def remedy_by_words(text: str) -> str:
    """Return the same for what another process said of its error."""
    for number, known in _BY_ERRNO.items():
        if os.strerror(number) in text:
            return known
    return _of_mask() if os.strerror(errno.EACCES) in text else ""


def _of_mask() -> str:
    """Return what mends a mask that takes from a user what he has just made; '' for others."""
    mask = os.umask(0o777)
    os.umask(mask)
    return "umask 022" if mask & _USERS_BITS else ""
