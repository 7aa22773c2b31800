"""Reads the last lines that a member wrote to stderr, from its file or from the journal."""

import os
import shlex

from scopekeeper import regular_files
from scopekeeper.errors import ScopekeeperError
from scopekeeper.stderr import files
from scopekeeper.systemd import journal_lines

_BYTES = 64 << 10
"""The end of a file that is read."""


def tail(path: str, most: int = _BYTES) -> bytes:
    """Return at most so many last bytes of a file, from the start of a line; raises OSError."""
    fd = regular_files.open_regular(path)
    try:
        begin = max(0, os.fstat(fd).st_size - most)
        data = os.pread(fd, most, begin)
    finally:
        os.close(fd)
    kept = data.lstrip(b"\0")  # what the freed beginning reads as
    if not begin and kept == data:
        return data
    _, _, rest = kept.partition(b"\n")
    return rest or kept


def path_of(leaf: str) -> str:
    """Return the path of a member's file; raises StateError."""
    return f"{files.folder(files.FILE)}/{leaf}"


def of_journal(leaf: str, count: int) -> list[str]:
    """Return the last lines of a member in the journal, as far as this user may read it."""
    try:
        return [line.message for line in journal_lines.of_stream(leaf, count)]
    except ScopekeeperError:
        return []


def journal_command(leaf: str) -> str:
    """Return what to type to see all lines of a member."""
    return f"journalctl -t {shlex.quote(leaf)}"
