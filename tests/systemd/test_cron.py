"""Under a real cron: a job's servers end with it, or with its client; not with cron."""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    record_of,
)

from .manager import state, systemctl, uid_of
from .test_clients import Launch, client, client_of, kill, reconcile, server_of, shell
from .test_other_users import as_user

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("cron"), reason="cron is not installed"),
]

UNIT = "cron.service"
A_MINUTE = 90
"""Seconds in which cron starts a job of every minute."""
HOW = {"killed": signal.SIGKILL, "ended": signal.SIGINT}
USERS = [user for user in ("root", "lab") if uid_of(user) >= 0]


@pytest.fixture
def table() -> Iterator[Path]:
    """Start cron, and give the file of its jobs; afterwards no job is left."""
    if state(UNIT) != "inactive":
        pytest.skip("this machine has a cron at work")
    path = Path("/etc/cron.d/scopekeeper-test")
    assert systemctl("start", UNIT).returncode == 0
    yield path
    path.unlink(missing_ok=True)
    systemctl("kill", "--signal=SIGKILL", UNIT)
    systemctl("stop", UNIT)
    eventually(lambda: state(UNIT) in ("inactive", "failed"))
    systemctl("reset-failed", UNIT)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that every user can read."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def jobs(folder: Path, session: str) -> tuple[dict[str, str], str]:
    """Return the users of the jobs by their names, and the lines of cron for them."""
    lines, users = "", {}
    for user in USERS:
        for fate in (*HOW, "stays"):
            name = f"{fate}-{user}"
            launch: Launch = [PROGRAM, "run", "-s", session, "--kind", "mcp", "--", *FOREVER]
            job = folder / name
            job.write_text(f"#!/bin/sh\n{shlex.join(shell(client(name, launch)))}\n")
            job.chmod(0o755)
            lines += f"* * * * * {user} {job}\n"
            users[name] = user
    return users, lines


def reconcile_all(keeper: Scopekeeper) -> None:
    """End, for each user, what has lost its client."""
    reconcile(keeper)
    for user in USERS[1:]:
        done = subprocess.run(as_user(user, PROGRAM, "reconcile"), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_what_a_job_started_ends_with_its_client_and_not_with_cron(
    keeper: Scopekeeper, session: str, table: Path, folder: Path
) -> None:
    users, lines = jobs(folder, session)
    table.write_text(lines)
    until = time.monotonic() + A_MINUTE
    servers = {
        name: eventually(lambda name=name: server_of(name), until - time.monotonic(), pause=0.2)
        for name in users
    }
    table.unlink()  # the next minute starts nothing
    clients = {name: client_of(name) for name in users}
    for name, server in servers.items():
        fields = record_of(directory_of(server))
        assert fields["OWNER_PID"] == str(clients[name]), name
        assert fields["OUTER_UNIT"] == UNIT
        assert os.stat(f"/proc/{server}").st_uid == uid_of(users[name])
    reconcile_all(keeper)
    assert all(map(is_alive, servers.values())), "a living client's server was ended"

    over = {name for name in users if not name.startswith("stays")}
    for name in over:
        kill(clients[name], HOW[name.partition("-")[0]])
    reconcile_all(keeper)
    for name, server in servers.items():
        assert is_alive(server) is (name not in over), name
        assert is_alive(clients[name]) is (name not in over), name

    assert systemctl("restart", UNIT).returncode == 0  # KillMode=process: its jobs go on
    reconcile_all(keeper)
    stays = users.keys() - over
    assert all(is_alive(servers[name]) and is_alive(clients[name]) for name in stays)
    for name in stays:
        kill(clients[name])
    reconcile_all(keeper)
    assert not any(map(is_alive, servers.values()))
