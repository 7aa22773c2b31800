"""A command of scopekeeper-shell over pipes, whose output is read to its end."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.how_to import block
from tests.machine import (
    SHELL,
    Scopekeeper,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
    text_of,
)

from .guard import Keeper
from .ssh import HOST, IS_THERE, Ssh

pytestmark = pytest.mark.systemd

with_ssh = pytest.mark.skipif(not IS_THERE, reason="there is no ssh, or no server for it")


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Ssh]:
    made = Ssh(tmp_path)
    yield made
    made.close()


def begin(session: str, command: str) -> "subprocess.Popen[str]":
    """Do a command as a gateway does a tool call."""
    variables = {"SCOPEKEEPER_SESSION": session, "SCOPEKEEPER_SHELL": shutil.which("bash") or ""}
    return subprocess.Popen(
        [SHELL, "-c", command], env=os.environ | variables, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def server(folder: Path) -> str:
    """Return a command that leaves a server, with the output that the command has."""
    return f"setsid sleep infinity & echo $! > {folder}/server; echo started"


def processes_of(session: str, member: str) -> set[int]:
    """Return the processes of a member, once it has two."""
    for scope in scope_directories():
        for leaf in leaves(scope):
            fields = record_of(f"{scope}/{leaf}")
            if record_of(scope)["SESSION"] == session and fields.get("NAME") == member:
                found = processes(f"{scope}/{leaf}")
                return found if len(found) > 1 else set()
    return set()


def hangs(call: "subprocess.Popen[str]") -> bool:
    """Return whether a call has ended, and its output has not."""
    call.wait(60)
    try:
        call.communicate(timeout=3)
    except subprocess.TimeoutExpired:
        return True
    return False


def test_by_the_rule_the_output_ends_although_a_server_holds_it(
    guard: Keeper, session: str, tmp_path: Path
) -> None:
    guard.policy(block("held-output.md", "Have the keeper", "toml"))
    guard.start()
    call = begin(session, server(tmp_path))
    assert call.communicate(timeout=300)[0] == "started\n"
    assert call.returncode == 0
    eventually(lambda: not is_alive(int(text_of(tmp_path / "server"))))


def test_without_it_the_server_stays_and_the_caller_waits_until_it_is_stopped(
    guard: Keeper, keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    guard.start()
    call = begin(session, server(tmp_path))
    assert hangs(call)
    assert is_alive(int(text_of(tmp_path / "server")))
    assert keeper.call("stop", "-s", session).returncode == 0
    assert call.communicate(timeout=300)[0] == "started\n"


def test_what_should_stay_stays_by_the_rule_too(
    guard: Keeper,
    keeper: Scopekeeper,
    session: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-server").write_text("#!/bin/sh\nsetsid sleep infinity &\nwait\n")
    (tmp_path / "my-server").chmod(0o755)
    guard.policy(block("held-output.md", "Have the keeper", "toml"))
    guard.start()
    line = block("held-output.md", "Have the keeper", "sh").strip()
    line = line.replace("my-server", "./my-server")
    call = begin(session, f"{line} until [ -s pid ]; do sleep 0.1; done")
    stays = eventually(lambda: processes_of(session, "my-server"))
    (tmp_path / "pid").write_text("it runs\n")
    call.communicate(timeout=300)
    leftover = begin(session, server(tmp_path))
    leftover.communicate(timeout=300)  # the keeper has done what it does by the rule
    assert all(map(is_alive, stays))
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not any(map(is_alive, stays))


KEPT = ("-o", "ControlMaster=auto", "-o", "ControlPersist=600")


@with_ssh
def test_a_master_of_ssh_keeps_nobody_waiting(keeper: Scopekeeper, session: str, ssh: Ssh) -> None:
    """It has its stderr at /dev/null, since OpenSSH 8.5."""
    call = begin(session, ssh.line(*KEPT, HOST, "echo done"))
    assert call.communicate(timeout=300)[0] == "done\n"
    assert is_alive(ssh.master)
    assert keeper.call("stop", "-s", session).returncode == 0


@with_ssh
@pytest.mark.parametrize("by_the_book", [True, False])
def test_a_master_of_ssh_that_writes_what_it_does_keeps_the_output(
    guard: Keeper, keeper: Scopekeeper, session: str, ssh: Ssh, by_the_book: bool
) -> None:
    if by_the_book:
        guard.policy(block("held-output.md", "Have the keeper", "toml"))
    guard.start()
    call = begin(session, ssh.line("-v", "-o", "LogLevel=DEBUG", *KEPT, HOST, "echo done"))
    if not by_the_book:
        assert hangs(call)
        assert is_alive(ssh.master)
        assert keeper.call("stop", "-s", session).returncode == 0
    assert call.communicate(timeout=300)[0] == "done\n"
    eventually(lambda: not ssh.master)
