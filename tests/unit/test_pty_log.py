"""What a run wrote is kept: all of it or its end, whoever is killed and however full the disk."""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import posix
import random
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import tty
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopekeeper.errors import StateError
from scopekeeper.exec import log, times
from scopekeeper.exec.log import SMALLEST, Log
from tests.watching import descriptors

ROOT = Path(__file__).parents[2]


def names(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("out."))


def everything(folder, position=0, most=1 << 16):
    """Read a log to its end; return its bytes and the gaps, as position and length."""
    pieces, gaps = [], []
    while True:
        found, data = log.read(folder, position, most)
        if found > position:
            gaps.append((position, found - position))
        pieces.append(data)
        position = found + len(data)
        if not data:
            return b"".join(pieces), gaps


def stream(count, seed=0):
    return random.Random(seed).randbytes(count)


def test_a_hole_is_no_output(tmp_path):
    written = Log(tmp_path, 1 << 20)
    written.write(b"one\ntwo\n")
    os.truncate(tmp_path / names(tmp_path)[0], 1 << 40)
    (tmp_path / f"out.{1 << 40:020}").write_bytes(b"three\n")
    data, gaps = everything(tmp_path)
    assert data == b"one\ntwo\nthree\n"
    assert gaps == [(8, (1 << 40) - 8)]
    assert log.last_lines(tmp_path, 2) == len(b"one\n")
    assert log.tail(tmp_path, 6) == b"three\n"
    os.truncate(tmp_path / f"out.{1 << 40:020}", 1 << 40)
    assert everything(tmp_path, 1 << 40) == (b"three\n", [((1 << 40) + 6, (1 << 40) - 6)])


@contextlib.contextmanager
def a_pipe(data=b""):
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
    try:
        os.write(writer, data)
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def waiting(fd):
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]


def test_what_is_written_can_be_read_from_any_position(tmp_path):
    written = Log(tmp_path, 1 << 20)
    assert written.write(b"hello ") == 6
    assert written.write(b"world") == 5
    assert written.end == log.end(tmp_path) == 11
    assert log.read(tmp_path, 0, 100) == (0, b"hello world")
    assert log.read(tmp_path, 4, 3) == (4, b"o w")
    assert log.read(tmp_path, 11, 100) == (11, b"")
    assert names(tmp_path) == ["out." + "0" * 20]
    assert (tmp_path / names(tmp_path)[0]).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / times.FILE).stat().st_mode & 0o777 == 0o600


def test_nothing_written_is_an_empty_log(tmp_path):
    assert (log.first(tmp_path), log.end(tmp_path)) == (0, 0)
    assert log.read(tmp_path, 0, 10) == (0, b"")
    assert log.tail(tmp_path, 10) == b""
    assert log.last_lines(tmp_path, 10) == 0
    assert log.since(tmp_path, 0) == 0
    opened = Log(tmp_path, 1 << 20)
    assert (opened.end, opened.last, log.tail(tmp_path, 2048)) == (0, 0, b"")


def test_of_a_folder_that_is_gone_readers_see_nothing_and_a_writer_is_told(tmp_path):
    gone = tmp_path / "gone"
    assert log.read(gone, 5, 10) == (5, b"")
    assert log.end(gone) == 0
    with pytest.raises(StateError, match="gone"):
        Log(gone, 1 << 20)


WRITES = st.lists(st.one_of(st.integers(0, 300), st.just("reopen"), st.just("close")), max_size=40)


@settings(max_examples=60, deadline=None)
@given(WRITES, st.integers(1, 200), st.integers(1, 1000), st.booleans(), st.integers(1, 400))
def test_any_writes_read_back_as_their_end(tmp_path_factory, writes, segment, most, splices, piece):
    folder = tmp_path_factory.mktemp("log")
    writer, whole = Log(folder, most, segment=segment), b""
    for at, step in enumerate(writes):
        if step == "close":
            writer.close()
            continue
        if step == "reopen":
            writer.close()
            writer = Log(folder, most, segment=segment)
            continue
        data = stream(step, at)
        whole += data
        with a_pipe(data) as (reader, _):
            assert (writer.splice(reader, step) if splices else writer.write(data)) == step
        assert writer.end == log.end(folder) == len(whole)
    begin = log.first(folder)
    data, gaps = everything(folder, 0, piece)
    assert data == whole[begin:]
    assert gaps == ([(0, begin)] if begin else [])
    assert min(len(whole), most) <= len(data) <= most + segment
    assert all((folder / name).stat().st_size <= segment for name in names(folder))
    for count in (0, 1, segment, most):
        assert log.tail(folder, count) == (data[-count:] if count else b"")
    writer.close()


def test_segments_are_an_eighth_of_all_and_not_too_small(tmp_path):
    for number, (most, size) in enumerate([(SMALLEST, SMALLEST), (8 << 20, 1 << 20)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        written = Log(folder, most)
        written.write(bytes(3 * size + 1))
        assert max((folder / name).stat().st_size for name in names(folder)) == size
        written.close()


def test_splice_takes_no_more_than_was_asked_and_waits_for_nothing(tmp_path):
    written = Log(tmp_path, 1 << 20)
    with a_pipe(b"abcdef") as (reader, writer):
        assert written.splice(reader, 4) == 4
        assert waiting(reader) == 2
        assert written.splice(reader, 100) == 2
        assert written.splice(reader, 100) == 0
        os.write(writer, b"g")
        assert written.splice(reader, 1) == 1
    assert everything(tmp_path)[0] == b"abcdefg"


def test_a_mistake_of_the_caller_is_no_broken_disk(tmp_path):
    written = Log(tmp_path, 1 << 20)
    with pytest.raises(OSError, match="Bad file descriptor") as raised:
        written.splice(10_000, 5)
    assert raised.value.errno == errno.EBADF
    assert (written.end, written.dropped) == (0, 0)


def test_a_closed_log_has_no_descriptor_and_goes_on(tmp_path):
    before = descriptors()
    written = Log(tmp_path, 1 << 20)
    assert descriptors() == before
    written.write(b"a")
    assert descriptors() == before + 1
    written.close()
    written.close()
    assert descriptors() == before
    written.write(b"b")
    written.close()
    assert everything(tmp_path) == (b"ab", [])


def test_reopened_it_knows_when_something_was_last_written(tmp_path):
    written = Log(tmp_path, 1 << 20)
    before = time.time_ns() // 1000
    written.write(b"a")
    assert before <= written.last <= time.time_ns() // 1000
    written.close()
    os.utime(tmp_path / names(tmp_path)[0], ns=(0, 1_700_000_000_000_000_000))
    assert Log(tmp_path, 1 << 20).last == 1_700_000_000_000_000


def test_what_is_kept_no_more_is_read_from_where_the_log_begins(tmp_path):
    Log(tmp_path, 1000, segment=10).write(b"0123456789abcdef")
    (tmp_path / names(tmp_path)[0]).unlink()
    assert log.read(tmp_path, 3, 2) == (10, b"ab")


def test_a_segment_that_goes_while_it_is_read_is_skipped(tmp_path, monkeypatch):
    Log(tmp_path, 1000, segment=10).write(b"0123456789abcdef")
    found = log._locate
    oldest = tmp_path / names(tmp_path)[0]

    def located(folder, position):
        answer = found(folder, position)
        oldest.unlink(missing_ok=True)
        return answer

    monkeypatch.setattr(log, "_locate", located)
    assert log.read(tmp_path, 0, 100) == (10, b"abcdef")


def test_a_reader_beside_a_fast_writer_reads_true_bytes_only(tmp_path):
    """Each byte says its position, so what is read shows whether it is from there."""
    total = 4 << 20
    pattern = bytes(range(251)) * 600
    child = os.fork()
    if child == 0:
        try:
            written = Log(tmp_path, 1 << 16, segment=4096)
            while written.end < total:
                at = written.end % 251
                written.write(pattern[at : at + 10_000])
        finally:
            os._exit(0)
    position = 0
    while position < total:
        found, data = log.read(tmp_path, position, 1 << 16)
        assert found >= position
        assert data == pattern[found % 251 :][: len(data)]
        position = found + len(data)
    assert os.waitpid(child, 0)[1] == 0


@given(st.binary(max_size=60).map(lambda data: data.replace(b"a", b"\n")), st.integers(0, 20))
@settings(deadline=None, max_examples=60)
def test_the_last_lines(tmp_path_factory, data, count):
    folder = tmp_path_factory.mktemp("lines")
    written = Log(folder, 1000, segment=7)
    written.write(data)
    written.close()
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    kept = [line + b"\n" for line in lines[max(len(lines) - count, 0) :]] if count else []
    if kept and not data.endswith(b"\n"):
        kept[-1] = kept[-1][:-1]
    assert everything(folder, log.last_lines(folder, count))[0] == b"".join(kept)


# When it was written.


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1_000_000_000_000
        monkeypatch.setattr(time, "time_ns", lambda: self.now * 1000)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_a_time_finds_what_was_written_since(tmp_path, clock):
    written = Log(tmp_path, 1 << 20)
    start = clock.now
    for step in range(10):
        clock.now = start + step * 10_000_000
        written.write(b"%d" % step)
    assert log.since(tmp_path, 0) == 0
    assert log.since(tmp_path, start) == 0
    assert log.since(tmp_path, start + 35_000_000) == 4
    assert log.since(tmp_path, start + 40_000_000) == 4
    assert log.since(tmp_path, clock.now + 5_000_000) == written.end == 10


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 5)), min_size=4, max_size=80),
    st.sampled_from([2, 4, 10, 4096]),
    st.integers(-3_000_000, 3_000_000),
    st.sets(st.integers(0, 80)),
)
def test_all_that_was_written_since_a_time_is_found(
    tmp_path_factory, writes, most, beside, reopened
):
    folder = tmp_path_factory.mktemp("times")
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        patch.setattr(times, "_MOST", most)
        written = Log(folder, 1 << 20)
        came = []
        for at, (pause, size) in enumerate(writes):
            if at in reopened:
                written.close()
                written = Log(folder, 1 << 20)
            clock.now += pause
            came += [clock.now] * size
            written.write(bytes(size))
        written.close()
    for asked in {moment + beside for moment in came} | {*came}:
        position = log.since(folder, asked)
        assert all(moment < asked for moment in came[:position])
        if most == 4096:
            assert all(moment > asked - 1_000_001 for moment in came[position:])
    assert (folder / times.FILE).stat().st_size <= 16 * most


def test_of_many_times_some_give_way_and_nothing_written_since_is_missed(
    tmp_path, clock, monkeypatch
):
    monkeypatch.setattr(times, "_MOST", 10)
    written = Log(tmp_path, 1 << 20)
    came = []
    for at in range(100):
        clock.now += 2_000_000
        written.write(b"x")
        came.append(clock.now)
        assert (tmp_path / times.FILE).stat().st_size <= 160
        for position in range(at + 1):
            assert log.since(tmp_path, came[position]) <= position
        assert log.since(tmp_path, came[-1]) == at
        assert log.since(tmp_path, came[-1] + 1_000_001) == at + 1


def test_the_times_are_forgotten_with_their_bytes(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(times, "_MOST", 10)
    written = Log(tmp_path, 100, segment=10)
    for _ in range(50):
        clock.now += 2_000_000
        written.write(bytes(10))
    first = log.first(tmp_path)
    assert log.since(tmp_path, 0) <= first
    assert log.since(tmp_path, clock.now - 10_000_000) >= first


def test_a_clock_that_is_put_back_hides_nothing(tmp_path, clock):
    written = Log(tmp_path, 1 << 20)
    written.write(b"before")
    clock.now -= 3_600_000_000
    written.write(b"after")
    assert log.since(tmp_path, clock.now) == 0


def test_a_torn_last_time_is_ignored(tmp_path, clock):
    written = Log(tmp_path, 1 << 20)
    written.write(b"one")
    with (tmp_path / times.FILE).open("ab") as file:
        file.write(b"torn")
    assert log.since(tmp_path, clock.now) == 0
    clock.now += 5_000_000
    written.write(b"two")
    assert log.since(tmp_path, clock.now) == 3
    assert (tmp_path / times.FILE).stat().st_size == 32


# A writer that is killed.


def pump(master, pipe, folder, most):
    """Do what a keeper does, until the terminal is closed: terminal, pipe, file."""
    reader, writer = pipe
    written = Log(folder, most)
    written.splice(reader, waiting(reader))
    while True:
        select.select([master], [], [])
        try:
            count = os.splice(master, writer, 1 << 16)
        except OSError as error:
            if error.errno == errno.EIO:  # nobody has the other side any more
                return
            raise
        while count:
            count -= written.splice(reader, count)


def test_killed_at_any_moment_it_loses_and_doubles_nothing(tmp_path):
    total = 6 << 20
    master, slave = os.openpty()
    tty.setraw(slave)
    pipe = os.pipe()
    typist = os.fork()
    if typist == 0:
        with contextlib.suppress(BaseException):
            left = memoryview(stream(total))
            while left:
                left = left[os.write(slave, left[:4000]) :]
        os._exit(len(left) > 0)
    os.close(slave)
    dice, killed = random.Random(4), 0
    while True:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                pump(master, pipe, tmp_path, 2 * total)
                os._exit(0)
            os._exit(1)
        # a signal that comes at a random moment of the work, not a wait for something
        time.sleep(dice.random() * dice.choice([0.002, 0.02]))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
        killed += 1
        if killed == 150:
            pump(master, pipe, tmp_path, 2 * total)
            break
    assert os.waitpid(typist, 0)[1] == 0
    assert killed > 5
    assert waiting(pipe[0]) == 0
    data, gaps = everything(tmp_path)
    assert gaps == []
    assert len(data) == total
    assert hashlib.sha256(data).digest() == hashlib.sha256(stream(total)).digest()
    for fd in (master, *pipe):
        os.close(fd)


def dies_at(step, work):
    """Do some work in a child that is killed before its change of that number; did it die?"""
    child = os.fork()
    if child == 0:
        seen = itertools.count()

        def counted(call):
            def wrapped(*arguments, **more):
                if next(seen) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **more)

            return wrapped

        for name in ("splice", "read", "write", "pwrite", "open", "close", "unlink", "rename"):
            setattr(os, name, counted(getattr(os, name)))
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("most", [10_000, 500])
@pytest.mark.parametrize("through", ["splice", "write"])
def test_killed_before_any_call_the_next_goes_on_where_it_was(tmp_path, most, through):
    data = stream(3000)
    for step in itertools.count():
        folder = tmp_path / str(step)
        folder.mkdir()
        with a_pipe(data) as (reader, _):

            def work(folder=folder, reader=reader):
                written = Log(folder, most, segment=300)
                while written.end < len(data):
                    if through == "splice":
                        assert written.splice(reader, 700)
                    else:
                        written.write(data[written.end : written.end + 700])
                written.close()

            died = dies_at(step, work)
            assert log.end(folder) + waiting(reader) == len(data) or through == "write"
            work()
            kept, gaps = everything(folder)
            assert kept == data[log.first(folder) :]
            assert len(kept) >= min(most, len(data))
            assert gaps in ([], [(0, len(data) - len(kept))])
        if not died:
            break
    assert step > 20


# A disk that takes nothing.


class Disk:
    """Lets so many more bytes through to files, then fails as one does."""

    def __init__(self, monkeypatch, problem, room):
        self.room, self.problem = room, problem
        self.names = True
        real_splice, real_write, real_open = os.splice, os.pwrite, posix.open

        def take(most):
            if not self.room:
                raise OSError(self.problem, os.strerror(self.problem))
            return min(most, self.room)

        def splice(src, dst, count, **rest):
            if not waiting(src):
                return real_splice(src, dst, count, **rest)
            done = real_splice(src, dst, take(count), **rest)
            self.room -= done
            return done

        def pwrite(fd, data, offset):
            done = real_write(fd, data[: take(len(data))], offset)
            self.room -= done
            return done

        def opened(path, flags, *rest, **more):
            if flags & os.O_CREAT and not self.names:
                raise OSError(self.problem, os.strerror(self.problem))
            return real_open(path, flags, *rest, **more)

        monkeypatch.setattr(os, "splice", splice)
        monkeypatch.setattr(os, "pwrite", pwrite)
        monkeypatch.setattr(posix, "open", opened)


@pytest.mark.parametrize("problem", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("names_left", [True, False])
def test_what_the_disk_does_not_take_is_a_gap(tmp_path, monkeypatch, problem, names_left):
    disk = Disk(monkeypatch, problem, 1000)
    written = Log(tmp_path, 1 << 20)
    written.write(b"a" * 10)
    disk.room, disk.names = 0, names_left
    with a_pipe(b"b" * 500) as (reader, _):
        assert written.splice(reader, 300) == 300
        assert written.splice(reader, 300) == 200
        assert waiting(reader) == 0
    assert written.write(b"c" * 7) == 7
    assert (written.end, written.dropped) == (517, 507)
    assert log.end(tmp_path) == (517 if names_left else 10)
    assert log.tail(tmp_path, 2048) == b"a" * 10
    disk.room, disk.names = 1000, True
    written.write(b"d" * 3)
    assert everything(tmp_path) == (b"a" * 10 + b"d" * 3, [(10, 507)])
    assert len(names(tmp_path)) == 2
    assert Log(tmp_path, 1 << 20).end == log.end(tmp_path) == 520


def test_a_gap_is_known_to_who_goes_on_with_a_full_disk(tmp_path, monkeypatch):
    disk = Disk(monkeypatch, errno.ENOSPC, 10 + 16)  # and a record of the time
    Log(tmp_path, 1 << 20).write(b"a" * 15)
    written = Log(tmp_path, 1 << 20)
    assert written.end == 15
    written.write(b"b" * 5)
    disk.room = 100
    written.write(b"c")
    assert everything(tmp_path) == (b"a" * 10 + b"c", [(10, 10)])


def test_its_own_oldest_make_room_first(tmp_path, monkeypatch):
    disk = Disk(monkeypatch, errno.ENOSPC, 1 << 20)
    unlink = Path.unlink

    def freeing(path, **rest):
        disk.room += path.stat().st_size
        unlink(path, **rest)

    monkeypatch.setattr(Path, "unlink", freeing)
    written = Log(tmp_path, 1 << 20, segment=1000)
    data = stream(20_500)
    written.write(data[:4500])
    disk.room = 0
    written.write(data[4500:])
    assert written.dropped == 0
    kept, gaps = everything(tmp_path)
    assert data.endswith(kept)
    assert 2000 <= len(kept) <= 4500
    assert [at for at, _ in gaps] == [0]


def test_the_last_that_is_left_stays_where_it_makes_little_room(tmp_path, monkeypatch):
    disk = Disk(monkeypatch, errno.ENOSPC, 1 << 20)
    written = Log(tmp_path, 1 << 20, segment=1000)
    written.write(b"x" * 3200)
    disk.room = 0
    written.write(b"y" * 5000)
    assert log.tail(tmp_path, 2048) == b"x" * 200
    assert written.dropped == 5000


@pytest.mark.parametrize("splices", [False, True])
def test_a_limit_of_the_size_of_files_makes_more_of_them(tmp_path, splices):
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            written = Log(tmp_path, 1 << 20)
            data = stream(50_000)
            with a_pipe(data if splices else b"") as (reader, _):
                assert (written.splice(reader, 60_000) if splices else written.write(data)) == 50000
            assert written.dropped == 0
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert everything(tmp_path) == (stream(50_000), [])


FULL = """
import os, sys
from pathlib import Path
from tests.unit import test_pty_log as our
folder = Path(sys.argv[1])
our.on_a_small_disk(folder)
"""


def on_a_small_disk(folder):
    """Run in a file system of 256 KiB."""
    assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize == 256 << 10
    data = stream(2 << 20)
    written = Log(folder, 1 << 20)

    def spliced(begin, stop):
        while begin < stop:
            with a_pipe(data[begin : min(begin + 50_000, stop)]) as (reader, _):
                begin += written.splice(reader, 50_000)
                assert waiting(reader) == 0

    spliced(0, 1 << 20)
    kept, gaps = everything(folder)
    assert (written.end, written.dropped) == (1 << 20, 0)
    assert data[: 1 << 20].endswith(kept)
    assert len(gaps) == 1
    assert len(kept) > 60_000
    # another takes all that there is, and what the log gives up too
    other = os.open(folder / "other", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def greedy():
        with contextlib.suppress(OSError):
            while True:
                os.write(other, bytes(4096))

    unlink = Path.unlink

    def unlinked(path, **rest):
        unlink(path, **rest)
        greedy()

    greedy()
    Path.unlink = unlinked
    spliced(1 << 20, 3 << 19)
    assert written.end == log.end(folder) == 3 << 19
    assert written.dropped > 400_000
    # and gives it back
    Path.unlink = unlink
    os.ftruncate(other, 0)
    spliced(3 << 19, 2 << 20)
    assert written.end == 2 << 20
    assert data.endswith(log.tail(folder, 2048))
    begin, dropped = 0, written.dropped
    for name in names(folder):
        start, kept = int(name[4:]), (folder / name).read_bytes()
        assert data[start : start + len(kept)] == kept
        begin = start + len(kept)
    assert begin == 2 << 20
    assert Log(folder, 1 << 20).end == 2 << 20
    written.close()
    assert written.dropped == dropped


@pytest.mark.root
def test_a_full_disk_stops_nothing(tmp_path):
    script = 'mount -t tmpfs -o size=256k none "$1" && exec "$2" -c "$3" "$1"'
    words = ["sh", str(tmp_path), sys.executable, FULL]
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, *words],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
