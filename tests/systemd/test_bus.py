"""The way to the manager: over the bus, over its own socket where there is none; or a clear no."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopekeeper.systemd import dbus_wire
from tests.machine import FOREVER, Scopekeeper, cgroup_of, eventually, scope_directories

from .manager import SLICE, state

pytestmark = [pytest.mark.systemd, pytest.mark.root]

LOGGED_IN = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n"


def over(folder: Path, argv: list[str]) -> list[str]:
    """Return a command that sees folder where the bus daemon's would be, and only it does."""
    script = 'mount --bind "$1" /run/dbus && shift && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", str(folder), *argv]


def error_to_the_greeting() -> bytes:
    """Return a refusal as a bus daemon words it."""
    body = dbus_wire.Writer()
    body.string("The maximum number of active connections has been reached")
    head = dbus_wire.Writer()
    head.data += bytes((ord("l"), dbus_wire.ERROR, 0, 1))
    head.number(len(body.data), 4)
    head.number(7, 4)
    fields = dbus_wire.Writer()
    for code, kind, value in (
        (4, "s", "org.freedesktop.DBus.Error.LimitsExceeded"),
        (5, "u", 1),
        (8, "g", "s"),
    ):
        fields.align(8)
        fields.data.append(code)
        fields.signature(kind)
        if kind == "g":
            fields.signature(str(value))
        else:
            fields.value(kind, value)
    head.number(len(fields.data), 4)
    head.data += fields.data
    head.align(8)
    return bytes(head.data + body.data)


@contextlib.contextmanager
def bus(folder: Path, answer: bytes) -> Iterator[None]:
    """Stand in for a bus daemon that gives one answer and hangs up."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "system_bus_socket"))
        listening.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_without_a_bus_daemon_the_manager_is_asked_itself(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    process = keeper.popen(over(tmp_path, keeper.argv("-s", session, "--", *FOREVER)))
    eventually(lambda: "/m-sleep." in cgroup_of(process.pid))
    (scope,) = scope_directories()
    assert scope.startswith(f"{SLICE}/")
    assert state(os.path.basename(scope)) == "active"
    assert keeper.call("stop", "-s", session).returncode == 0
    assert process.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"REJECTED EXTERNAL\r\n", "refused the login"),
        (b"DATA\r\nREJECTED EXTERNAL\r\n", "refused the login"),
    ],
    ids=["rejected", "rejected late"],
)
def test_a_bus_that_refuses_is_told_in_one_line(
    keeper: Scopekeeper, session: str, tmp_path: Path, answer: bytes, words: str
) -> None:
    argv = keeper.argv("-s", session, "--", "echo", "ran")
    with bus(tmp_path, answer):
        done = subprocess.run(over(tmp_path, argv), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (125, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert words in done.stderr
    assert not scope_directories()


@pytest.mark.parametrize(
    "answer",
    [
        LOGGED_IN + error_to_the_greeting(),
        b"",
        LOGGED_IN,
        LOGGED_IN + error_to_the_greeting()[:40],
    ],
    ids=["has no room", "hangs up", "hangs up later", "half an answer"],
)
def test_where_a_bus_has_room_for_nobody_or_hangs_up_the_manager_is_asked_itself(
    keeper: Scopekeeper, session: str, tmp_path: Path, answer: bytes
) -> None:
    argv = keeper.argv("-s", session, "--", "echo", "ran")
    with bus(tmp_path, answer):
        done = subprocess.run(over(tmp_path, argv), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


def greeted() -> socket.socket | None:
    """Return a new connection to the real bus; None if it has room for no more of this user."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect("/run/dbus/system_bus_socket")
    bus_name = "org.freedesktop.DBus"
    hello = dbus_wire.call(1, bus_name, "/org/freedesktop/DBus", bus_name, "Hello")
    connection.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n" + hello)
    answer = b""
    while answer.count(b"\r\n") < 2 or len(answer) < 100:
        chunk = connection.recv(4096)
        answer += chunk
        if not chunk:
            break
    if b"LimitsExceeded" in answer:
        connection.close()
        return None
    return connection


def test_a_launch_needs_no_room_on_a_bus_that_is_full(keeper: Scopekeeper, session: str) -> None:
    held: list[socket.socket] = []
    try:
        while (connection := greeted()) is not None:
            held.append(connection)
            assert len(held) < 4096, "this bus has no such limit"
        done = keeper.run("-s", session, "--", "true")
    finally:
        for each in held:
            each.close()
    assert (done.returncode, done.stderr) == (0, "")
