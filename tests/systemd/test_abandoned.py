"""A server to which nobody can talk any more is ended, even if its owner lives; no other is."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    rewrite_record,
    scope_directories,
    wait_for_command,
)

from .guard import Keeper

pytestmark = pytest.mark.systemd

SAID = ("--kind", "mcp")
NOBODY = "nobody holds the other end of its stdin"


class Client:
    """What talks to a server over a pipe, or over a socket as Node does for its children."""

    def __init__(self, kind: str) -> None:
        if kind == "pipe":
            self.servers_stdin, write = os.pipe()
            read, self.servers_stdout = os.pipe()
            self._ends = {"stdin": write, "stdout": read}
        else:
            ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
            self.servers_stdin, self.servers_stdout = (each.detach() for each in theirs)
            self._ends = {"stdin": ours[0].detach(), "stdout": ours[1].detach()}

    def start(self, keeper: Scopekeeper, *arguments: str) -> "subprocess.Popen[bytes]":
        how = {"stdin": self.servers_stdin, "stdout": self.servers_stdout}
        process = keeper.start(*arguments, "--", *FOREVER, **how)
        wait_for_command(process)
        self._close("servers_stdin", "servers_stdout")
        return process

    def _close(self, *names: str) -> None:
        for name in names:
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)

    def hang_up(self, *ends: str) -> None:
        """Close our end of the server's stdin, and of its stdout."""
        for end in ends or ("stdin", "stdout"):
            if end in self._ends:
                os.close(self._ends.pop(end))

    def close(self) -> None:
        self.hang_up()
        self._close("servers_stdin", "servers_stdout")


@pytest.fixture(params=["pipe", "socket"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    client = Client(request.param)
    yield client
    client.close()


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write the rules that reconcile goes by."""
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path))
    return lambda text: (tmp_path / "config.toml").write_text(text) and None


def verdict(keeper: Scopekeeper, *options: str) -> tuple[str, str, str]:
    done = keeper.call("reconcile", "--json", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (action,) = json.loads(done.stdout)["actions"]
    return action["class"], action["action"], action["evidence"]


def test_a_server_that_nobody_can_talk_to_is_ended_after_its_grace(
    keeper: Scopekeeper, session: str, client: Client
) -> None:
    server = client.start(keeper, "-s", session, *SAID)
    assert verdict(keeper)[:2] == ("owned", "keep")
    client.hang_up("stdin")
    class_, action, evidence = verdict(keeper)
    assert (class_, action) == ("abandoned", "keep")
    assert evidence == f"{NOBODY}; ends in 10s"
    why = keeper.call("why", session).stdout
    assert re.search(f"; {NOBODY}; abandoned: ends in [0-9.]+s; no keeper runs: a later ", why)
    assert "No keeper runs: what ends later ends at " in keeper.call("reconcile").stdout
    # as if the ten seconds were over: a mark says since when, and 1 is soon after the boot
    rewrite_record(directory_of(server.pid), ABANDONED="1")
    assert verdict(keeper, "--dry-run")[:2] == ("abandoned", "stop")
    assert is_alive(server.pid)
    assert verdict(keeper)[:2] == ("abandoned", "stop")
    assert server.wait(PATIENCE) == -signal.SIGTERM
    why = keeper.call("why", session)
    assert "nobody could talk to it" in why.stdout
    assert NOBODY in why.stdout


def test_without_a_kind_it_may_be_a_job_in_a_pipeline_that_is_still_read(
    keeper: Scopekeeper, session: str, client: Client, rules: Callable[[str], None]
) -> None:
    rules('[lanes.default]\nabandoned_grace = "0s"\n')
    job = client.start(keeper, "-s", session)
    client.hang_up("stdin")
    assert verdict(keeper)[:2] == ("owned", "keep")
    held = f"; {NOBODY}, but that of its stdout is held by "
    assert held in keeper.call("why", session).stdout
    client.hang_up("stdout")
    class_, action, evidence = verdict(keeper)
    assert (class_, action) == ("abandoned", "stop")
    assert evidence == f"{NOBODY} and of its stdout"
    assert job.wait(PATIENCE) == -signal.SIGTERM


@pytest.mark.parametrize("what", ["nothing", "file", "named pipe", "terminal", "own end"])
def test_what_else_is_at_its_stdin_proves_nothing(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None], tmp_path: Path, what: str
) -> None:
    rules('[lanes.default]\nabandoned_grace = "0s"\n')
    inherited = -1
    if what == "nothing":
        stdin = os.open("/dev/null", os.O_RDONLY)
    elif what == "file":
        (tmp_path / "input").touch()
        stdin = os.open(tmp_path / "input", os.O_RDONLY)
    elif what == "named pipe":
        os.mkfifo(tmp_path / "fifo")
        stdin = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    elif what == "terminal":
        other, stdin = os.openpty()
        os.close(other)
    else:  # the server itself can write to it
        stdin, inherited = os.pipe()
    how = {"stdin": stdin, "pass_fds": () if inherited < 0 else (inherited,)}
    server = keeper.start("-s", session, *SAID, "--", *FOREVER, **how)
    wait_for_command(server)
    for fd in (stdin, inherited):
        if fd >= 0:
            os.close(fd)
    assert verdict(keeper)[:2] == ("owned", "keep")
    assert is_alive(server.pid)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ('[lanes.default]\nabandoned_grace = "infinity"\n', SAID),
        ('[lanes.default.mcp]\nabandoned_grace = "infinity"\n', SAID),
        ('[lanes.default]\nabandoned_grace = "0s"\n', ("--kind", "exec")),
        ('[lanes.default]\nabandoned_grace = "0s"\n', (*SAID, "--lifetime", "detached")),
    ],
    ids=["lane keeps it", "kind keeps it", "no server", "detached"],
)
def test_it_stays_where_it_shall(
    keeper: Scopekeeper, session: str, client: Client, rules: Callable[[str], None],
    rule: str, options: tuple[str, ...],
) -> None:  # fmt: skip
    rules(rule)
    server = client.start(keeper, "-s", session, *options)
    client.hang_up()
    assert verdict(keeper)[1] == "keep"
    assert is_alive(server.pid)


def test_ls_shows_it(keeper: Scopekeeper, session: str) -> None:
    client = Client("pipe")
    client.start(keeper, "-s", session, *SAID)
    client.hang_up()
    (scope,) = keeper.scopes("-s", session, "--members")
    assert scope["state"] == "abandoned"
    assert keeper.scopes("-s", session, "--state", "abandoned")


def test_a_keeper_ends_it_by_itself(
    guard: Keeper, keeper: Scopekeeper, session: str, client: Client
) -> None:
    guard.policy('[lanes.default]\nabandoned_grace = "10ms"\n')
    guard.start()
    kept = client.start(keeper, "-s", session, *SAID, "-n", "kept")
    other = Client("pipe")
    left = other.start(keeper, "-s", session, *SAID, "-n", "left")
    other.hang_up()
    assert left.wait(PATIENCE) == -signal.SIGTERM
    (row,) = guard.ends(session)
    assert (row["member"], row["reason"]) == ("left", "abandoned")
    assert is_alive(kept.pid)


WORKER = """
import socket, subprocess, sys, time
kind, *argv = sys.argv[1:]
if kind == "pipe":
    how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
else:
    ours = [socket.socketpair() for _ in range(2)]
    how = {"stdin": ours[0][1], "stdout": ours[1][1]}
server = subprocess.Popen(argv, **how)
for pair in ours if kind == "socket" else ():
    pair[1].close()
time.sleep(3600)
"""


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_keeper_ends_what_a_dead_helper_of_a_living_owner_talked_to(
    guard: Keeper, keeper: Scopekeeper, session: str, kind: str
) -> None:
    guard.policy('[lanes.default]\nabandoned_grace = "10ms"\n')
    guard.start()
    launch = keeper.argv("-s", session, *SAID, "--owner", str(os.getpid()), "--", *FOREVER)
    helpers = [
        keeper.popen([sys.executable, "-c", WORKER, kind, *launch], stdin=subprocess.DEVNULL)
        for _ in range(2)
    ]
    servers = eventually(lambda: found if len(found := by_parent()) == 2 else None)
    helpers[0].kill()
    eventually(lambda: not is_alive(servers[helpers[0].pid]))
    (row,) = guard.ends(session)
    assert row["reason"] == "abandoned"
    assert is_alive(servers[helpers[1].pid])


def by_parent() -> dict[int, int]:
    """Return the pids of all members that have become their command, by the pid of their parent."""
    found = {}
    for scope in scope_directories():
        for leaf in leaves(scope):
            for pid in processes(f"{scope}/{leaf}"):
                command = Path(f"/proc/{pid}/comm").read_text().strip()
                if command == "sleep" and leaf in cgroup_of(pid):
                    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    found[int(stat[1])] = pid
    return found


def test_a_record_of_an_earlier_version_needs_both_ends(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None]
) -> None:
    rules('[lanes.default]\nabandoned_grace = "0s"\n')
    client = Client("pipe")
    server = client.start(keeper, "-s", session, *SAID)
    fields = record_of(directory_of(server.pid))
    assert fields.pop("SAYS_KIND") == "1"
    text = "".join(f"{key}={value}\n" for key, value in fields.items())
    os.setxattr(directory_of(server.pid), "user.scopekeeper", text.encode())
    client.hang_up("stdin")
    assert verdict(keeper)[:2] == ("owned", "keep")
    client.close()
    assert verdict(keeper)[:2] == ("abandoned", "stop")
