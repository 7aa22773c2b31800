"""Who holds the other end of a pipe or a socket is seen on real ones, and changes nothing."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from scopekeeper.kernel import peers

FOREVER = ["sleep", "1000"]


@pytest.fixture
def piped() -> Iterator[subprocess.Popen[bytes]]:
    """A process between two pipes of ours, as clients start servers."""
    child = subprocess.Popen(FOREVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield child
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        assert stream is not None
        stream.close()


@pytest.mark.parametrize("fd", [0, 1])
def test_the_holder_of_a_pipe_is_found_until_it_lets_go(
    piped: subprocess.Popen[bytes], fd: int
) -> None:
    end = peers.other_end(piped.pid, fd)
    assert end is not None
    assert end.is_held
    assert peers.holders(end) == [os.getpid()]
    assert peers.holders(end, {os.getpid()}) == []
    stream = (piped.stdin, piped.stdout)[fd]
    assert stream is not None
    stream.close()
    end = peers.other_end(piped.pid, fd)
    assert end is not None
    assert not end.is_held
    assert peers.holders(end) == []


def test_unread_input_does_not_hold_a_pipe(piped: subprocess.Popen[bytes]) -> None:
    assert piped.stdin is not None
    piped.stdin.write(b"unread")
    piped.stdin.close()
    end = peers.other_end(piped.pid, 0)
    assert end is not None
    assert not end.is_held


def test_a_look_leaves_end_of_file_to_the_reader() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert peers.other_end(child.pid, 0) is not None
        assert child.communicate(b"all of it", timeout=60)[0] == b"all of it"


def test_the_peer_of_a_socket_pair_is_found_until_it_closes() -> None:
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen(FOREVER, stdin=theirs, stdout=theirs) as child:
        theirs.close()
        try:
            for fd in (0, 1):
                end = peers.other_end(child.pid, fd)
                assert end is not None
                assert end.is_held
                assert end.link == f"socket:[{os.fstat(ours.fileno()).st_ino}]"
                assert peers.holders(end) == [os.getpid()]
            ours.close()
            for fd in (0, 1):
                end = peers.other_end(child.pid, fd)
                assert end is not None
                assert not end.is_held
        finally:
            child.kill()


def test_nothing_is_proved_of_other_descriptors() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    lonely = socket.socket(socket.AF_UNIX)
    read, write = os.pipe()
    both = os.open(f"/proc/self/fd/{read}", os.O_RDWR)
    with listening, lonely, open(os.devnull, "rb") as null:
        for fd in (listening.fileno(), lonely.fileno(), null.fileno(), both, 999_999):
            assert peers.other_end(os.getpid(), fd) is None
    for fd in (read, write, both):
        os.close(fd)
    assert peers.other_end(2**22 + 1, 0) is None


def test_pyroute2_is_imported_for_a_socket_only() -> None:
    program = (
        "import os, sys; from scopekeeper.kernel import peers; r, w = os.pipe(); "
        "assert peers.other_end(os.getpid(), r).is_held; assert 'pyroute2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
