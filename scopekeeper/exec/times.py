"""When a run wrote its output: the file ``times`` beside it.

Records of 16 bytes, a position and the time in microseconds since the epoch, at most one a second.
The bytes from a record's position up to the next one's were written at most a second after its
time. So two neighbours can be merged, with the position of the first and the time of the second:
the file stays small however long a slow run takes. A record cut short by a crash is ignored.
"""

import contextlib
import errno
import os
import pathlib
import struct

from scopekeeper import whole_file
from scopekeeper.regular_files import open_regular, read

FILE = "times"
_RECORD = struct.Struct("<QQ")
_SECOND = 1_000_000
_MOST = (64 << 10) // _RECORD.size


class Times:
    """Writes the records of one log. A record that cannot be written is skipped."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        records = _read(folder)
        self._last = records[-1][1] if records else 0

    def note(self, position: int, now: int, first: int) -> None:
        """Record that the next write begins at position; first is the first byte of the log.

        Call it before writing: a record without bytes does no harm, bytes without one count as
        older than they are.
        """
        # record a clock that was set back, too
        if 0 <= now - self._last < _SECOND:
            return
        with contextlib.suppress(OSError):
            if self._append(_RECORD.pack(position, now)) > _MOST:
                self._shorten(first)
            self._last = now

    def _append(self, record: bytes) -> int:
        """Write a record after the last complete one and return how many there are now."""
        fd = open_regular(self._folder / FILE, os.O_WRONLY | os.O_CREAT)
        try:
            count = os.fstat(fd).st_size // _RECORD.size
            if os.pwrite(fd, record, count * _RECORD.size) < _RECORD.size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)
        return count + 1

    def _shorten(self, first: int) -> None:
        records = _read(self._folder)
        begun = sum(position <= first for position, _ in records)
        kept = records[max(begun - 1, 0) :]
        if len(kept) > _MOST // 2:
            kept = [(kept[at][0], kept[min(at + 1, len(kept) - 1)][1])
                    for at in range(0, len(kept), 2)]  # fmt: skip
        content = b"".join(_RECORD.pack(*record) for record in kept)
        whole_file.replace(self._folder / FILE, content)


def since(folder: pathlib.Path, usec: int) -> int | None:
    """Return the position of the first byte written at or after a time; None if there is none.

    Up to a second of older output follows it, and more if it was written long ago.
    """
    return next((at for at, time in _read(folder) if time + _SECOND > usec), None)


def _read(folder: pathlib.Path) -> list[tuple[int, int]]:
    try:
        data = read(folder / FILE)
    except OSError:
        return []
    whole = len(data) // _RECORD.size * _RECORD.size
    return list(_RECORD.iter_unpack(data[:whole]))
