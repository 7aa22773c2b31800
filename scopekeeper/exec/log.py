"""What one run wrote: one stream of bytes, with absolute positions from 0.

It lies in the folder of the run, in segments ``out.POSITION``: 20 digits, the position of the
segment's first byte. The names and sizes are all there is to know, so a writer that was killed
between any two system calls goes on where it was, and readers need neither the writer nor a lock.
Of too many segments the oldest are removed. Where one begins later than the one before it ends,
the bytes between are lost: the disk did not take them.
"""

import array
import bisect
import contextlib
import errno
import fcntl
import os
import pathlib
import re
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass

from scopekeeper.errors import StateError
from scopekeeper.exec.times import Times
from scopekeeper.exec.times import since as _since
from scopekeeper.regular_files import open_regular

SMALLEST = 64 << 10
"""Bytes of a segment at least."""
TAIL = 2048
_PIECE = 64 << 10
_PAGE = 4 << 10
_SEGMENT = re.compile(r"out\.([0-9]{20})")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MISTAKES = (errno.EBADF, errno.EINVAL)
"""Errors that the caller made, not the disk."""


@dataclass(slots=True)
class _Segment:
    start: int
    size: int


class _Pipe:
    """Bytes that the kernel moves out of a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def put(self, fd: int, offset: int, most: int) -> int:
        return os.splice(
            self._fd, fd, most, offset_dst=offset, flags=os.SPLICE_F_NONBLOCK
        )  # it blocks where the pipe is empty, else; what lies in it is there at once

    def waiting(self) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, count)
        return count[0]

    def discard(self, count: int) -> None:
        while count:
            count -= len(os.read(self._fd, min(count, _PIECE))) or count


class _Bytes:
    """Bytes of this process."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def put(self, fd: int, offset: int, most: int) -> int:
        count = os.pwrite(fd, self._left[:most], offset)
        self._left = self._left[count:]
        return count

    def waiting(self) -> int:
        return len(self._left)

    def discard(self, count: int) -> None:
        self._left = self._left[count:]


class Log:
    """The one writer of a log. A disk that takes nothing is no error: bytes are dropped, counted.

    It has at most one descriptor open, and none after ``close`` until something is written again.
    """

    def __init__(self, folder: pathlib.Path, most: int, *, segment: int | None = None) -> None:
        """Go on with the log in a folder; of it at least most bytes are kept.

        segment: bytes of a full segment, an eighth of most where it is not given. Raises
        StateError.
        """
        self._folder = folder
        self._most = most
        self._full = segment or max(most // 8, SMALLEST)
        try:
            starts = _segments(folder)
        except OSError as error:
            raise StateError(f"cannot read {folder}: {error.strerror}") from None
        self._segments = [_Segment(start, _size(folder, start)) for start in starts]
        self._kept = sum(each.size for each in self._segments)
        self._fd = -1
        self._times = Times(folder)
        self.dropped = 0
        """Bytes that the disk did not take, since this writer began."""
        self.end = 0
        """The position behind the last byte."""
        self.last = 0
        """When something was last written, or dropped: microseconds since the epoch; 0: never."""
        if self._segments:
            newest = self._segments[-1]
            self.end = newest.start + newest.size
            with contextlib.suppress(OSError):
                self.last = _path(folder, newest.start).stat().st_mtime_ns // 1000

    def splice(self, pipe_fd: int, count: int) -> int:
        """Move up to count bytes out of a pipe, without ever waiting for some.

        Returns how many it took, dropped ones too. The kernel moves each either to the file or
        not, whatever kills this process.
        """
        return self._take(_Pipe(pipe_fd), count)

    def write(self, data: bytes) -> int:
        """Write bytes; returns how many these were, dropped ones too."""
        return self._take(_Bytes(data), len(data))

    def tail(self, count: int = TAIL) -> bytes:
        """Return the last bytes."""
        return tail(self._folder, count)

    def close(self) -> None:
        """Close what is open; what is written afterwards opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, source: _Pipe | _Bytes, count: int) -> int:
        now = time.time_ns() // 1000
        first_kept = self._segments[0].start if self._segments else self.end
        self._times.note(self.end, now, first_kept)
        done = 0
        while done < count:
            try:
                taken = self._put(source, count - done)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _MISTAKES:
                    raise
                if self._make_room(error.errno):
                    continue
                taken = self._drop(source, count - done)
            if not taken:
                break
            done += taken
        if done:
            self.last = now
        return done

    def _put(self, source: _Pipe | _Bytes, most: int) -> int:
        """Do one write to the newest segment; raises OSError."""
        segment = self._open()
        count = source.put(self._fd, segment.size, min(most, self._full - segment.size))
        segment.size += count
        self.end += count
        self._kept += count
        while self._kept > self._most + self._full and len(self._segments) > 1:
            self._remove_oldest()
        return count

    def _open(self) -> _Segment:
        """Return the segment that has room, open; raises OSError."""
        newest = self._segments[-1] if self._segments else None
        if newest is None or newest.size >= self._full or newest.start + newest.size != self.end:
            return self._begin()
        if self._fd < 0:
            # no O_APPEND: splice refuses it
            path = _path(self._folder, newest.start)
            self._fd = open_regular(path, os.O_WRONLY)
        return newest

    def _begin(self) -> _Segment:
        """Have an empty segment that begins at the end; raises OSError."""
        path = _path(self._folder, self.end)
        newest = self._segments[-1] if self._segments else None
        if newest is not None and not newest.size:
            # a full disk has room for a new name rather than for a new file
            _path(self._folder, newest.start).rename(path)
            newest.start = self.end
            return self._open()
        fd = open_regular(path, os.O_WRONLY | os.O_CREAT)
        self.close()
        self._fd = fd
        self._segments.append(_Segment(self.end, 0))
        return self._segments[-1]

    def _make_room(self, problem: int | None) -> bool:
        """Do what can help against an error of the disk; False where there is nothing."""
        if problem == errno.EINTR:
            return True
        if not self._segments or problem not in (*_NO_ROOM, errno.EFBIG):
            return False
        oldest, newest = self._segments[0], self._segments[-1]
        try:
            if problem == errno.EFBIG:
                # the limit of one file: the next takes as much
                return newest.size >= _PAGE and self._begin() is not newest
            if newest is oldest or (len(self._segments) == 2 and not newest.size):
                # the last of what there is goes only for something that is worth it
                if oldest.size < self._full // 4:
                    return False
                if newest is oldest:
                    self._begin()
        except OSError:
            return False
        self._remove_oldest()
        return True

    def _drop(self, source: _Pipe | _Bytes, most: int) -> int:
        """Lose bytes. The gap is there first: killed in between, too much counts as lost."""
        count = min(most, source.waiting())
        if count:
            self.end += count
            self.dropped += count
            # where there is not even room for a name, the gap shows with the next bytes
            with contextlib.suppress(OSError):
                self._begin()
            source.discard(count)
        return count

    def _remove_oldest(self) -> None:
        oldest = self._segments.pop(0)
        self._kept -= oldest.size
        with contextlib.suppress(OSError):
            _path(self._folder, oldest.start).unlink()


def first(folder: pathlib.Path) -> int:
    """Return the position of the first byte that is kept."""
    starts = _starts(folder)
    return starts[0] if starts else 0


def end(folder: pathlib.Path) -> int:
    """Return the position behind the last byte."""
    starts = _starts(folder)
    return starts[-1] + _size(folder, starts[-1]) if starts else 0


def since(folder: pathlib.Path, usec: int) -> int:
    """Return a position from which on lies all that was written at or after a time.

    Microseconds since the epoch; the bytes there can be older by about a second.
    """
    position = _since(folder, usec)
    return end(folder) if position is None else position


def read(folder: pathlib.Path, position: int, most: int) -> tuple[int, bytes]:
    """Return up to most bytes, and the position that they are from; none at the end.

    That is later than asked for where the log no longer has it, or never had, as in a hole of the
    file. Raises OSError.
    """
    while True:
        position, start, available = _locate(folder, position)
        if not available:
            return position, b""
        with (
            contextlib.suppress(FileNotFoundError),  # removed since: go on where the log begins
            open(_path(folder, start), "rb", 0, opener=open_regular) as file,
        ):
            size = position - start + available
            begin, behind = _extent(file.fileno(), position - start, size)
            data = os.pread(file.fileno(), min(most, behind - begin), begin)
            if begin + len(data) == behind < size:
                data = data.rstrip(b"\0")  # the hole begins within the last block
            if data:
                return start + begin, data
            position = start + behind


def tail(folder: pathlib.Path, count: int) -> bytes:
    """Return the last bytes."""
    pieces: list[bytes] = []
    for _, data in _backwards(folder):
        pieces.insert(0, data[-count:] if count else b"")
        count -= len(pieces[0])
        if not count:
            break
    return b"".join(pieces)


def last_lines(folder: pathlib.Path, count: int) -> int:
    """Return the position where the last lines begin; the last one may not be ended yet."""
    if not count:
        return end(folder)
    last = True
    for position, data in _backwards(folder):
        at = len(data) - (last and data.endswith(b"\n"))
        last = False
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            count -= 1
            if not count:
                return position + at + 1
    return first(folder)


def _backwards(folder: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    """Yield pieces and their positions, the newest first."""
    for start in reversed(_starts(folder)):
        with (
            contextlib.suppress(FileNotFoundError),
            open(_path(folder, start), "rb", 0, opener=open_regular) as file,
        ):
            for begin, behind in reversed(list(_extents(file.fileno()))):
                left = behind
                while left > begin:
                    count = min(left - begin, _PIECE)
                    left -= count
                    yield start + left, os.pread(file.fileno(), count, left)


def _extents(fd: int) -> Iterator[tuple[int, int]]:
    """Yield where a file has data: the first offset of each extent, and the one behind it."""
    behind, size = 0, os.fstat(fd).st_size
    while behind < size:
        begin, behind = _extent(fd, behind, size)
        if begin < behind:
            yield begin, behind


def _extent(fd: int, begin: int, end: int) -> tuple[int, int]:
    """Return the first extent between two offsets; twice the end if there is only a hole.

    The writer makes none: a crash of the machine does, or somebody who truncates the file.
    """
    try:
        begin = min(os.lseek(fd, begin, os.SEEK_DATA), end)
        return begin, min(os.lseek(fd, begin, os.SEEK_HOLE), end)
    except OSError as error:
        return (end, end) if error.errno == errno.ENXIO else (begin, end)


def _locate(folder: pathlib.Path, position: int) -> tuple[int, int, int]:
    """Return the first position that is kept, its segment's start, how many bytes lie there.

    No bytes: it is the end.
    """
    starts = _starts(folder)
    behind = 0
    for start in starts[max(bisect.bisect_right(starts, position) - 1, 0) :]:
        size = _size(folder, start)
        behind = start + size
        if size and behind > position:
            found = max(position, start)
            return found, start, behind - found
    return max(position, behind), 0, 0


def _starts(folder: pathlib.Path) -> list[int]:
    try:
        return _segments(folder)
    except FileNotFoundError:
        return []


def _segments(folder: pathlib.Path) -> list[int]:
    """Return where the segments in a folder begin; only regular files are any. Raises OSError."""
    with os.scandir(folder) as entries:
        return sorted(
            start
            for entry in entries
            if (start := _number(entry.name)) >= 0 and entry.is_file(follow_symlinks=False)
        )


def _number(name: str) -> int:
    """Return where the segment of that name begins; -1 where it is none."""
    match = _SEGMENT.fullmatch(name)
    return int(match[1]) if match else -1


def _path(folder: pathlib.Path, start: int) -> pathlib.Path:
    return folder / f"out.{start:020}"


def _size(folder: pathlib.Path, start: int) -> int:
    """Return the bytes of a segment; none where it was removed, or has moved on empty."""
    try:
        return _path(folder, start).lstat().st_size
    except FileNotFoundError:
        return 0
