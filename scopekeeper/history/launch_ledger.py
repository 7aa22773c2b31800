"""Appends a line for each launch to a file in the runtime directory, before the command runs.

A command that lives for a few milliseconds comes and goes between two looks of a keeper, and its
record goes with its cgroup. The line stays for whoever looks next (lifecycle.unseen_ends). A stop
appends lines to the same file before its first signal.

A line is a record with NUL instead of line breaks, appended in one write: lines of several launches
do not mix. On the hot path of ``run``: builtin modules only. If the file cannot be written, the
launch goes on.
"""

import posix

from scopekeeper.kernel.proc import boottime
from scopekeeper.scope import names, records

MOST = 2 << 20
"""Bytes; a launch that finds more starts a new file. One earlier file is kept."""
EARLIER = ".old"
MOMENT_DIGITS = 20
"""Of the moment of a label: texts of one length sort like their numbers."""
_STATE_ROOM = 200
_OPEN = (
    posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC
    | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY
)  # fmt: skip
_REGULAR, _KIND = 0o100000, 0o170000


def path() -> str:
    """Return the file of the lines; every SCOPEKEEPER_STATE has its own."""
    state = posix.environ.get(b"SCOPEKEEPER_STATE", b"").decode("utf-8", "surrogateescape")
    own = f"-{names.escape(state)[-_STATE_ROOM:]}" if state else ""
    return f"{_folder()}/launches{own}"


def labels() -> str:
    """Return the folder of ``session_label``; it may be missing."""
    return f"{_folder()}/labels"


def _folder() -> str:
    uid = posix.getuid()
    return "/run/scopekeeper" if uid == 0 else f"/run/user/{uid}/scopekeeper"


def line(fields: dict[str, str]) -> bytes:
    """Return a record as one line, after a line break in case the last line was cut short."""
    return b"\n" + records.dumps(fields)[:-1].replace(b"\n", b"\0") + b"\n"


def label_line(cgroup: str, born: str, label: str) -> bytes:
    """Return the line of a scope that has this label now; '' removes it.

    cgroup and born, the BOOTTIME in its record, name one life of the scope.
    """
    fields = {
        "LABELLED": str(boottime()).zfill(MOMENT_DIGITS),
        "LABEL": label,
        "CGROUP": cgroup,
        "SCOPE_BORN": born,
    }
    return line(fields)


def append(lines: bytes) -> None:
    """Append whole lines; do nothing if that fails."""
    where = path()
    try:
        fd = _open(where)
    except OSError:
        return
    try:
        seen = posix.fstat(fd)
        if seen.st_mode & _KIND == _REGULAR and seen.st_uid == posix.getuid():
            if seen.st_mode & 0o777 != 0o600:
                posix.fchmod(fd, 0o600)  # just made, with an unusual umask
            posix.write(fd, lines)
            if seen.st_size > MOST:
                posix.rename(where, where + EARLIER)
    except OSError:
        pass
    finally:
        posix.close(fd)


def _open(where: str) -> int:
    try:
        return posix.open(where, _OPEN, 0o600)
    except FileNotFoundError:
        folder = where.rpartition("/")[0]
        posix.mkdir(folder, 0o755)
        posix.chmod(folder, 0o755)
        return posix.open(where, _OPEN, 0o600)
