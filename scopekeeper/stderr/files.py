"""The files that members have as their stderr, ``stderr/file/LEAF`` in the state folder.

No process stays to keep such a file small, so the file itself says whether it is in use: whoever
has it as stderr holds a shared lock. That belongs to the open file, and so goes on through execve
and fork, until the last process that has the descriptor closes it (flock(2)).

Of a member whose stderr goes to the journal, ``stderr/journal/LEAF`` is an empty file.
"""

import fcntl
import os

from scopekeeper import regular_files, state

FILE, JOURNAL = "file", "journal"
_CREATE = os.O_CREAT | os.O_EXCL
_PRIVATE = 0o700


def folder(how: str) -> str:
    """Return the folder of FILE or JOURNAL, which may not exist; raises StateError."""
    return f"{state.path()}/stderr/{how}"


def make_folder(how: str) -> str:
    """Return this folder, made if it was missing; raises StateError, OSError."""
    made = f"{state.make_path()}/stderr"
    for each in (made, f"{made}/{how}"):
        try:
            os.mkdir(each, _PRIVATE)
            os.chmod(each, _PRIVATE)  # whatever the umask
        except FileExistsError:
            pass
    return f"{made}/{how}"


def create(leaf: str) -> int:
    """Make the file of a new member, and return it open and locked; raises StateError, OSError."""
    path = f"{make_folder(FILE)}/{leaf}"
    fd = regular_files.open_regular(path, os.O_RDWR | os.O_APPEND | _CREATE)
    try:
        os.fchmod(fd, 0o600)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def note_journal(leaf: str) -> None:
    """Note that the stderr of a new member goes to the journal; raises StateError, OSError."""
    path = f"{make_folder(JOURNAL)}/{leaf}"
    os.close(regular_files.open_regular(path, os.O_WRONLY | _CREATE))


def where(leaf: str) -> str:
    """Return FILE or JOURNAL; '' for a member whose stderr went where that of its caller does."""
    if "/" in leaf:
        return ""  # a record that somebody wrote by hand
    found = (how for how in (FILE, JOURNAL) if os.path.lexists(f"{folder(how)}/{leaf}"))
    return next(found, "")


def is_in_use(fd: int) -> bool:
    """Return whether a process has an open file as its stderr."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
