"""Leaves a line for each launch in the runtime directory, before the command runs.

A command that lives for a few milliseconds comes and goes between two looks of a keeper, and its
record goes with its cgroup. The line stays, for whoever looks next: see
scopekeeper.lifecycle.unseen_ends. A stop leaves lines in the same file before its first signal.

A line is a record with NUL for its line breaks, and one write to a file that is appended to: lines
of several launches do not mix. On the hot path of ``run``: builtin modules only. Nothing rests on
it: where it cannot be written, the launch goes on.
"""

import posix

from scopekeeper.scope import names, records

MOST = 2 << 20
"""Bytes; a launch that finds more begins a new file, and one earlier file is kept beside it."""
EARLIER = ".old"
_STATE_ROOM = 200
_OPEN = (
    posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC
    | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY
)  # fmt: skip
_REGULAR, _KIND = 0o100000, 0o170000


def path() -> str:
    """Return where the lines are; of launches with a state folder of their own, in another file."""
    uid = posix.getuid()
    runtime = "/run" if uid == 0 else f"/run/user/{uid}"
    state = posix.environ.get(b"SCOPEKEEPER_STATE", b"").decode("utf-8", "surrogateescape")
    own = f"-{names.escape(state)[-_STATE_ROOM:]}" if state else ""
    return f"{runtime}/scopekeeper/launches{own}"


def line(fields: dict[str, str]) -> bytes:
    """Return a record as one line; it begins with a line break, in case the last was cut short."""
    return b"\n" + records.dumps(fields)[:-1].replace(b"\n", b"\0") + b"\n"


def append(lines: bytes) -> None:
    """Append whole lines; nothing where that cannot be done."""
    where = path()
    try:
        fd = _open(where)
    except OSError:
        return
    try:
        seen = posix.fstat(fd)
        if seen.st_mode & _KIND == _REGULAR and seen.st_uid == posix.getuid():
            if seen.st_mode & 0o777 != 0o600:
                posix.fchmod(fd, 0o600)  # made just now, under an unusual umask
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
