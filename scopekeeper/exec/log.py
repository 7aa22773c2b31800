"""The output of one run: a stream of bytes, with absolute positions from 0.

It is stored in the folder of the run, in segments ``out.POSITION``: 20 digits, the position of the
segment's first byte. Names and sizes are the whole state, so a writer that was killed between any
two system calls continues, and readers need neither the writer nor a lock. The oldest segments
are removed when there are too many. A gap between two segments is output that the disk did not
take.
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
_PIECE = 64 << 10
_PAGE = 4 << 10
_SEGMENT = re.compile(r"out\.([0-9]{20})")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MISTAKES = (errno.EBADF, errno.EINVAL)
"""Errors of the caller, not of the disk."""


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
        )  # without it, an empty pipe blocks

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
    """The one writer of a log. A full disk is not an error: bytes are dropped and counted.

    At most one descriptor is open, and none after ``close`` until the next write.
    """

    def __init__(self, folder: pathlib.Path, most: int, *, segment: int | None = None) -> None:
        """Continue the log in a folder, which keeps at least most bytes; raises StateError.

        segment is the size of a full segment, by default an eighth of most.
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
        """Bytes that the disk did not take, by this writer."""
        self.end = 0
        """The position after the last byte."""
        self.last = 0
        """Time of the last write or drop: microseconds since the epoch; 0 means never."""
        if self._segments:
            newest = self._segments[-1]
            self.end = newest.start + newest.size
            with contextlib.suppress(OSError):
                self.last = _path(folder, newest.start).stat().st_mtime_ns // 1000

    def splice(self, pipe_fd: int, count: int) -> int:
        """Move up to count bytes out of a pipe, without blocking; return how many.

        Dropped bytes count, too. The kernel moves each byte to the file or leaves it in the pipe,
        whatever kills this process.
        """
        return self._take(_Pipe(pipe_fd), count)

    def write(self, data: bytes) -> int:
        """Write bytes; return how many, counting dropped ones."""
        return self._take(_Bytes(data), len(data))

    def close(self) -> None:
        """Close the descriptor; the next write opens it again."""
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
        """Open and return the segment that has room; raises OSError."""
        newest = self._segments[-1] if self._segments else None
        if newest is None or newest.size >= self._full or newest.start + newest.size != self.end:
            return self._begin()
        if self._fd < 0:
            # no O_APPEND: splice refuses it
            path = _path(self._folder, newest.start)
            self._fd = open_regular(path, os.O_WRONLY)
        return newest

    def _begin(self) -> _Segment:
        """Begin an empty segment at the end; raises OSError."""
        path = _path(self._folder, self.end)
        newest = self._segments[-1] if self._segments else None
        if newest is not None and not newest.size:
            # a full disk may have room for a new name, but not for a new file
            _path(self._folder, newest.start).rename(path)
            newest.start = self.end
            return self._open()
        fd = open_regular(path, os.O_WRONLY | os.O_CREAT)
        self.close()
        self._fd = fd
        self._segments.append(_Segment(self.end, 0))
        return self._segments[-1]

    def _make_room(self, problem: int | None) -> bool:
        """Do what helps against an error of the disk; False if nothing does."""
        if problem == errno.EINTR:
            return True
        if not self._segments or problem not in (*_NO_ROOM, errno.EFBIG):
            return False
        oldest, newest = self._segments[0], self._segments[-1]
        try:
            if problem == errno.EFBIG:
                # the limit of one file: continue in the next
                return newest.size >= _PAGE and self._begin() is not newest
            if newest is oldest or (len(self._segments) == 2 and not newest.size):
                # remove the only output only if that frees enough
                if oldest.size < self._full // 4:
                    return False
                if newest is oldest:
                    self._begin()
        except OSError:
            return False
        self._remove_oldest()
        return True

    def _drop(self, source: _Pipe | _Bytes, most: int) -> int:
        """Drop bytes. The gap is recorded first: killed in between, more counts as lost than is."""
        count = min(most, source.waiting())
        if count:
            self.end += count
            self.dropped += count
            # without room for a name, the gap appears with the next bytes
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
    """Return the position of the first byte."""
    starts = _starts(folder)
    return starts[0] if starts else 0


def end(folder: pathlib.Path) -> int:
    """Return the position after the last byte."""
    starts = _starts(folder)
    return starts[-1] + _size(folder, starts[-1]) if starts else 0


def since(folder: pathlib.Path, usec: int) -> int:
    """Return the position of the first byte that was written at or after a time.

    The time is in microseconds since the epoch; bytes there can be older by about a second.
    """
    position = _since(folder, usec)
    return end(folder) if position is None else position


def read(folder: pathlib.Path, position: int, most: int) -> tuple[int, bytes]:
    """Return up to most bytes and their position; none at the end. Raises OSError.

    The position is later than requested if the log no longer has the bytes or never had, as in a
    hole of the file.
    """
    while True:
        position, start, available = _locate(folder, position)
        if not available:
            return position, b""
        with (
            contextlib.suppress(
                FileNotFoundError
            ),  # removed meanwhile: continue where the log begins
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
    """Return the position where the last lines begin; the last one may be incomplete."""
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
    """Return the first position that the log has, its segment's start, and the bytes from there on.

    No bytes means that it is the end.
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
    """Return where the segments in a folder begin, all regular files; raises OSError."""
    with os.scandir(folder) as entries:
        return sorted(
            start
            for entry in entries
            if (start := _number(entry.name)) >= 0 and entry.is_file(follow_symlinks=False)
        )


def _number(name: str) -> int:
    """Return where the segment of that name begins; -1 for another file."""
    match = _SEGMENT.fullmatch(name)
    return int(match[1]) if match else -1


def _path(folder: pathlib.Path, start: int) -> pathlib.Path:
    return folder / f"out.{start:020}"


def _size(folder: pathlib.Path, start: int) -> int:
    """Return the size of a segment; 0 if it was removed, or renamed while empty."""
    try:
        return _path(folder, start).lstat().st_size
    except FileNotFoundError:
        return 0
