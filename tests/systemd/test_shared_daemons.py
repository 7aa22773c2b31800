"""Daemons that several sessions use: builds through one, connections through one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.how_to import block
from tests.machine import (
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    record_of,
    text_of,
)

from .ssh import HOST, IS_THERE, Ssh

pytestmark = pytest.mark.systemd

BUILD = """\
import os, socket, sys, threading, time
folder, name = sys.argv[1:]
address = f"{folder}/socket"

def serve(client):
    wanted = client.recv(100).decode()
    while not os.path.exists(f"{folder}/{wanted}.may-end"):
        time.sleep(0.02)
    client.sendall(b"built")
    client.close()

def daemon():
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    with open(f"{folder}/daemon", "w") as file:
        file.write(str(os.getpid()))
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

def start_daemon():
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    daemon()

client = socket.socket(socket.AF_UNIX)
if client.connect_ex(address):
    start_daemon()
    while client.connect_ex(address):
        time.sleep(0.02)
client.sendall(name.encode())
answer = client.recv(100)
print(answer.decode() or "the daemon has gone")
sys.exit(answer != b"built")
"""
"""What gradle and bazel do: a client starts a daemon if none listens, and builds through it."""


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Ssh]:
    made = Ssh(tmp_path)
    yield made
    made.close()


def a_daemon_serves(folder: Path) -> int:
    return int(eventually(lambda: text_of(folder / "daemon")))


def build(keeper: Scopekeeper, folder: Path, session: str, name: str) -> "subprocess.Popen[bytes]":
    """Begin a build in a session, as a command of its gateway's shell."""
    return keeper.member(
        "-s", session, "--kind", "exec", "--", sys.executable, "-c", BUILD, str(folder), name,
        stdout=subprocess.PIPE,
    )  # fmt: skip


def result(building: "subprocess.Popen[bytes]") -> tuple[int, str]:
    output = building.communicate(timeout=300)[0]
    return building.returncode, output.decode().strip()


@pytest.mark.parametrize("by_the_book", [True, False])
def test_a_build_goes_on_when_the_session_that_built_first_ends(
    keeper: Scopekeeper, session: str, tmp_path: Path, by_the_book: bool
) -> None:
    """As the page has it; without it, what happens is in docs/limits.md."""
    if by_the_book:
        words = block("shared-daemons.md", "A build daemon", "sh").split()
        start = words[: words.index("--")]
        assert start[:2] == ["scopekeeper", "run"]
        (tmp_path / "nothing.may-end").touch()
        first = [sys.executable, "-c", BUILD, str(tmp_path), "nothing"]
        assert keeper.call(*start[1:], "--", *first).stdout == "built\n"
    ours, theirs = f"{session}:A", f"{session}:B"
    one = build(keeper, tmp_path, ours, "one")
    daemon = a_daemon_serves(tmp_path)
    where = record_of(directory_of(daemon).rpartition("/")[0])["SESSION"]
    assert where == ("build-daemons" if by_the_book else ours)
    two = build(keeper, tmp_path, theirs, "two")
    assert keeper.call("stop", "-s", ours).returncode == 0
    assert not is_alive(one.pid)
    assert is_alive(daemon) is by_the_book
    (tmp_path / "two.may-end").touch()
    assert result(two) == ((0, "built") if by_the_book else (1, "the daemon has gone"))
    if by_the_book:
        assert keeper.call("reconcile").returncode == 0
        assert is_alive(daemon)
        assert keeper.call("stop", "-s", "build-daemons").returncode == 0
        assert not is_alive(daemon)


@pytest.mark.skipif(not IS_THERE, reason="there is no ssh, or no server for it")
def test_a_kept_connection_is_used_by_all_sessions_and_ends_with_none(
    keeper: Scopekeeper, session: str, ssh: Ssh
) -> None:
    words = block("shared-daemons.md", "A kept connection", "sh").split()
    at = words.index("ssh", words.index("--"))
    started = keeper.call(*words[1:at], *ssh.words(*words[at + 1 :]))
    assert started.returncode == 0, started.stderr
    master = eventually(lambda: ssh.master)
    assert record_of(directory_of(master).rpartition("/")[0])["SESSION"] == "ssh"
    ours, theirs = f"{session}:A", f"{session}:B"
    one = keeper.member("-s", ours, "--kind", "exec", "--", *ssh.words(HOST, "sleep 1000"))
    echo = ssh.words(HOST, "read line; echo $line")
    two = keeper.popen(
        keeper.argv("-s", theirs, "--kind", "exec", "--", *echo),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert keeper.call("stop", "-s", ours).returncode == 0
    assert not is_alive(one.pid)
    assert two.communicate(b"goes on\n", timeout=300)[0] == b"goes on\n"
    assert ssh.master == master
    assert keeper.call("stop", "-s", "ssh").returncode == 0
    assert not is_alive(master)
