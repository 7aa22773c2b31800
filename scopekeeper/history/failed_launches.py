"""Counts launches that failed, in a file of the runtime directory, for ``metrics``.

Each failure appends one letter, in one write: several do not mix, and nobody waits for a lock. The
file goes with the boot. If it cannot be written, nothing is counted. Builtin modules only.
"""

import posix

from scopekeeper.history import launch_ledger

KINDS = {
    "unavailable": "u",
    "manager": "m",
    "limit": "l",
    "conflict": "c",
    "usage": "a",
    "command": "p",
    "other": "o",
}
"""The kinds of errors, and their letters: no scope can be made here; systemd refused; a limit of
the kernel or of the rules; something contradicts the request; the call is wrong; the program of the
command is missing or cannot be executed."""
_OF_CLASSES = {
    "UnavailableError": "unavailable",
    "ManagerError": "manager",
    "LimitError": "limit",
    "ShortageError": "limit",
    "ConflictError": "conflict",
    "ForeignError": "conflict",
    "UsageError": "usage",
    "ValueError": "usage",
    "LookupError": "unavailable",
    "OSError": "unavailable",
}
MOST = 1 << 20
"""Bytes; a launch that finds more starts the file anew, and the counters with it."""
_OPEN = (
    posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC
    | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY
)  # fmt: skip
_REGULAR, _KIND = 0o100000, 0o170000


def path() -> str:
    """Return the file; every SCOPEKEEPER_STATE has its own, as of the ledger."""
    folder, _, name = launch_ledger.path().rpartition("/")
    return f"{folder}/failed-{name}"


def kind_of(error: Exception) -> str:
    """Return the kind of an error."""
    names = (each.__name__ for each in type(error).__mro__)
    return next((_OF_CLASSES[name] for name in names if name in _OF_CLASSES), "other")


def count(kind: str) -> None:
    """Count one more; do nothing if that fails."""
    try:
        where = path()
        fd = posix.open(where, _OPEN, 0o600)
    except OSError:
        return
    try:
        seen = posix.fstat(fd)
        if seen.st_mode & _KIND == _REGULAR and seen.st_uid == posix.getuid():
            posix.write(fd, KINDS[kind].encode())
            if seen.st_size > MOST:
                posix.unlink(where)
    except OSError:
        pass
    finally:
        posix.close(fd)


def totals() -> dict[str, int]:
    """Return how many failed since boot, by kind; raises OSError if that cannot be read."""
    from scopekeeper import regular_files

    try:
        letters = regular_files.read(path(), 2 * MOST)
    except FileNotFoundError:
        letters = b""
    return {kind: letters.count(letter.encode()) for kind, letter in KINDS.items()}
