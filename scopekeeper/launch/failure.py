"""Describes in one line why a launch failed."""

import errno
import traceback

from scopekeeper import errors
from scopekeeper.errors import ManagerError, ScopekeeperError, UnavailableError, UsageError
from scopekeeper.history import failed_launches
from scopekeeper.launch.program import original_environment
from scopekeeper.safe_text import safe

_HINTS = {errno.EROFS: errors.READ_ONLY, errno.EAFNOSUPPORT: errors.NO_SOCKETS}


def reported(error: Exception) -> str:
    """Count a launch that fails, or that goes on uncontained; return its error as one line."""
    failed_launches.count(failed_launches.kind_of(error))
    return describe(error)


def describe(error: Exception) -> str:
    """Return one line; print the traceback too if SCOPEKEEPER_DEBUG is set."""
    if original_environment().get(b"SCOPEKEEPER_DEBUG"):
        traceback.print_exception(error)
    return safe(_text(error))


def _text(error: Exception) -> str:
    if isinstance(error, ScopekeeperError):
        return str(error)
    if isinstance(error, LookupError) and "cgroup2" in str(error):
        return str(UnavailableError(str(error.args[0])))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        hint = f"; {_HINTS[error.errno]}" if error.errno in _HINTS else ""
        return f"cannot contain the command: {where}{error.strerror or error}{hint}"
    if isinstance(error, ValueError):
        return str(error)
    return f"internal error: {type(error).__name__}: {error}; SCOPEKEEPER_DEBUG=1 shows where"


def translated(error: Exception) -> ScopekeeperError:
    """Return an error as one of the classes of scopekeeper.errors, not a subclass."""
    if isinstance(error, ScopekeeperError):
        kinds = (each for each in type(error).__mro__ if each.__module__ == errors.__name__)
        kind: type[ScopekeeperError] = next(kinds)
        return kind(error.message, error.hint)
    if is_unavailable(error):
        return UnavailableError(describe(error))
    return (UsageError if isinstance(error, ValueError) else ScopekeeperError)(describe(error))


def is_unavailable(error: Exception) -> bool:
    """Return whether the machine failed and not the call: ``--if-unavailable`` covers only that."""
    return isinstance(error, UnavailableError | ManagerError | OSError) or (
        isinstance(error, LookupError) and "cgroup2" in str(error)
    )
