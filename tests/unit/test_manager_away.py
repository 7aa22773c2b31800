"""The way to a systemd that is away for a moment, over sockets of the test's own."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scopekeeper.errors import UnavailableError
from scopekeeper.systemd import manager
from scopekeeper.systemd.manager import Manager

LOGGED_IN = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the sockets of a user's manager and bus in a folder."""
    (tmp_path / "systemd").mkdir()
    before = Manager._open
    there = f"/run/user/{os.getuid()}"

    def opened(self: Manager, address: str) -> None:
        before(self, address.replace(there, str(tmp_path)))

    monkeypatch.setattr(Manager, "_open", opened)
    return tmp_path


@contextlib.contextmanager
def listening(path: Path, answer: bytes) -> Iterator[Callable[[], None]]:
    """Bind a socket that refuses until the function is called, then answers and hangs up."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = bound.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)

        def begin() -> None:
            bound.listen()
            thread.start()

        try:
            yield begin
        finally:
            bound.shutdown(socket.SHUT_RDWR)
            if thread.ident is not None:
                thread.join()


def test_a_manager_that_refuses_for_a_moment_is_asked_again(run: Path) -> None:
    with listening(run / "systemd" / "private", LOGGED_IN) as begin:
        later = threading.Timer(0.2, begin)
        later.start()
        began = time.monotonic()
        with Manager("user", os.getuid()):
            assert time.monotonic() - began > 0.1
        later.join()


def test_one_that_stays_away_is_named_in_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "_AWAY_SECONDS", 0.1)
    with (
        listening(run / "systemd" / "private", LOGGED_IN),
        pytest.raises(UnavailableError, match=r"the user manager does not answer .*refused"),
    ):
        Manager("user", os.getuid())


def test_without_a_manager_nothing_is_waited_for(run: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="No such file"):
        Manager("user", os.getuid())
    assert time.monotonic() - began < 5
    assert run.exists()


def test_when_the_bus_hangs_up_the_manager_itself_is_asked(run: Path) -> None:
    with (
        listening(run / "bus", b"") as bus,
        listening(run / "systemd" / "private", LOGGED_IN) as private,
    ):
        bus()
        private()
        with Manager("user", os.getuid()) as asked:
            asked.deadline = time.monotonic() + 0.5
            with pytest.raises(UnavailableError):
                asked.call("GetUnit", "s", ("x.scope",))
        assert asked._is_private
