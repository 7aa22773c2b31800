"""Keeps the cause of a stop in a file outside the record.

Processes can rewrite the record of their own cgroup, so the cause in a record proves nothing.
Before a stop marks a record, it writes its cause to a file named after the inode number of the
cgroup, which is unique until the next boot. Readers of the mark take the cause from there: a keeper
that sees the end, or the next command if the stop was killed. A reader trusts only files of its own
uid and of root.

This is as strong as the history itself: a process of the same uid that may write to the user's
runtime folder can forge both.
"""

import contextlib
import functools
import os
import time
from collections.abc import Iterator

from scopekeeper import regular_files, whole_file
from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel import proc
from scopekeeper.scope import record_parser, records

_KEPT, _KEPT_SECONDS = 1000, 3600.0
"""How many files stay, and for how long: a stop that was killed is finished within minutes."""
_SURELY_SECONDS = 60.0
"""No file goes before that, however many there are: a keeper reads them within seconds."""
_ROOTS = "/run/scopekeeper/stops"


def keep(directory: str, fields: dict[str, str]) -> bool:
    """Write the mark that a stop is about to set on a cgroup; return False if that failed.

    The file that root writes about another user's cgroup is readable for that user's keeper.
    """
    try:
        seen = os.stat(directory)
        write(str(seen.st_ino), fields, seen.st_uid)
    except (OSError, ScopekeeperError):
        return False
    return True


def write(name: str, fields: dict[str, str], uid: int) -> None:
    """Write the fields about a cgroup of this uid to a file; raises OSError, ScopekeeperError."""
    folder = _folder()
    mode = 0o600 if uid == os.geteuid() else 0o644
    content = records.dumps({"BOOT": this_boot(), **fields})
    try:
        whole_file.replace(f"{folder}/{name}", content, mode=mode)
    except FileNotFoundError:
        _make(folder)
        whole_file.replace(f"{folder}/{name}", content, mode=mode)


@functools.cache
def this_boot() -> str:
    """Return the id of this boot: one stop writes and reads many files that have it."""
    return proc.boot_id()


def find(directory: str) -> record_parser.StopMark | None:
    """Return the mark that a stop has kept of a cgroup; None if there is no trusted one."""
    try:
        number = os.stat(directory).st_ino
    except OSError:
        return None
    for folder in folders():
        with contextlib.suppress(OSError, ScopekeeperError, records.RecordError):
            raw = regular_files.read(f"{folder}/{number}", record_parser.SIZE_MAX)
            if records.loads(raw).get("BOOT") == this_boot():
                return record_parser.stop_mark(raw)
    return None


def tidy(folder: str = "") -> None:
    """Remove files that are no longer needed, by default those of this user."""
    now = time.time()
    with contextlib.suppress(OSError, ScopekeeperError):
        for at, (written, path) in enumerate(_newest_first(folder or _folder())):
            if now - written > (_KEPT_SECONDS if at < _KEPT else _SURELY_SECONDS):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # another stop may be as fast


def _newest_first(folder: str) -> list[tuple[float, str]]:
    """Return when each file of a folder was written, and its path."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found.append((entry.stat(follow_symlinks=False).st_mtime, entry.path))
    return sorted(found, reverse=True)


def _folder() -> str:
    uid = os.geteuid()
    if uid == 0:
        return _ROOTS
    runtime = f"/run/user/{uid}"
    if os.path.isdir(runtime):
        return f"{runtime}/scopekeeper/stops"
    from scopekeeper import state

    return f"{state.make()}/stops"


def folders() -> Iterator[str]:
    """Yield the folders whose files this user trusts."""
    with contextlib.suppress(ScopekeeperError):
        yield _folder()
    if os.geteuid() != 0:
        yield _ROOTS


def _make(folder: str) -> None:
    """Make the folder of this user's stops; raises OSError."""
    mode = 0o755 if os.geteuid() == 0 else 0o700
    os.makedirs(os.path.dirname(folder), mode=mode, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, mode)
        os.chmod(folder, mode)  # whatever the umask
