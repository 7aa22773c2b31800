"""Clients that started before their file was wrapped, as real processes."""

import json
import os
import subprocess
import sys
import time

import pytest

from scopekeeper.cli import status
from scopekeeper.mcp_configs.formats import recognise
from scopekeeper.setup import clients_now
from scopekeeper.setup.clients_now import Outdated, Wrapped, is_of, own_commands
from tests.machine import eventually

CLIENT = """
import subprocess, sys
kids = [subprocess.Popen(words.split(), stdin=subprocess.PIPE) for words in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read()
for each in kids:
    each.kill()
"""
SERVER = ["sleep", "66710"]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return a function that starts a program of Cursor's name; all are ended."""
    monkeypatch.setenv("HOME", str(tmp_path))
    script = tmp_path / "cursor"
    script.write_text(CLIENT)
    running = []

    def do(*servers, home=str(tmp_path)):
        words = [sys.executable, "-IS", str(script), *servers]
        client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  env={**os.environ, "HOME": home})  # fmt: skip
        running.append(client)
        assert client.stdout.readline() == b"ready\n"
        return client.pid

    yield do
    for client in running:
        client.communicate(timeout=60)


def outdated(servers=(SERVER,), since=0.0):
    return [*clients_now.outdated([Wrapped("cursor", "Cursor", [*servers], since)])]


def test_a_server_outside_of_every_scope_is_proof(start):
    pid = start(" ".join(SERVER))
    eventually(lambda: outdated() == [Outdated("Cursor", pid, 1)])
    assert outdated(servers=[["sleep", "1"]]) == []


def test_a_client_that_started_before_its_file_was_wrapped_is_outdated(start):
    pid = start()
    assert outdated() == []
    assert outdated(since=time.time() - 3600) == []
    assert outdated(since=time.time() + 1) == [Outdated("Cursor", pid, 0)]


def test_a_client_with_another_home_is_not_this_users(start, tmp_path):
    start(" ".join(SERVER), home=str(tmp_path / "other"))
    assert outdated(since=time.time() + 1) == []


def test_a_contained_server_shows_that_the_client_is_not_outdated(start, monkeypatch):
    pid = start(" ".join(SERVER))
    eventually(lambda: outdated() == [Outdated("Cursor", pid, 1)])
    monkeypatch.setattr(clients_now, "is_contained", lambda one: one != pid)
    assert outdated(since=time.time() + 1) == []
    monkeypatch.setattr(clients_now, "is_contained", lambda _: True)  # all of the client
    assert outdated(since=time.time() + 1) == []


def test_status_names_the_client_and_its_pid(start, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".cursor/mcp.json"
    path.parent.mkdir()
    args = ["run", "-n", "a", "--", *SERVER]
    path.write_text(json.dumps({"mcpServers": {"a": {"command": sys.executable, "args": args}}}))
    pid = start()
    launcher = tmp_path / "scopekeeper"
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    path.write_text(json.dumps({"mcpServers": {"a": {"command": str(launcher), "args": args}}}))

    def row():
        with pytest.raises(SystemExit) as ended:
            status.command.main(["--json"], standalone_mode=False)
        document = json.loads(capsys.readouterr().out)
        hands = [each for each in document["needs_a_hand"] if each["what"] == "Cursor"]
        (found,) = (each for each in document["found"] if each["what"] == "Cursor")
        return ended.value.code, found["state"], found["detail"], hands

    assert row()[1:] == ("contained", "1 server wrapped", [])
    backup = path.with_name("mcp.json.before-scopekeeper")
    backup.write_text("{}")
    now = time.time() + 1
    os.utime(backup, (now, now))
    detail = f"pid {pid} started before it was wrapped"
    hand = {"what": "Cursor", "detail": detail, "command": "end it, and start it again"}
    assert row() == (1, "needs a hand", detail, [hand])


@pytest.mark.parametrize(
    ("words", "server", "wanted"),
    [
        (["sleep", "7"], ["sleep", "7"], True),
        (["/usr/bin/sleep", "7"], ["sleep", "7"], True),
        (["sleep", "7"], ["sleep", "8"], False),
        (["python3", "/srv/time.py", "--stdio"], ["/srv/time.py", "--stdio"], True),
        (["pylsp", "--stdio"], ["/srv/time.py", "--stdio"], False),
        (["npm exec @a/server-x"], ["npx", "-y", "@a/server-x@1.2"], True),
        (["npm exec @a/server-y"], ["npx", "-y", "@a/server-x"], False),
        (["/venv/bin/python", "/venv/bin/mcp-time"], ["uvx", "mcp-time"], True),
        (["uv", "tool", "uvx", "mcp-time"], ["uv", "tool", "run", "mcp-time"], True),
        (["sh"], ["npx", "-y"], False),
        ([], ["x"], False),
        (["x"], [], False),
    ],
)
def test_a_process_is_matched_with_a_server(words, server, wanted):
    assert is_of(words, server) is wanted


def test_the_own_command_of_each_wrapped_server_is_read():
    servers = {
        "a": {"command": "scopekeeper", "args": ["run", "-n", "a", "--", "npx", "x"]},
        "b": {"command": "/opt/scopekeeper", "args": ["run", "y", 7]},
        "c": {"command": "z"}, "d": 7,
    }  # fmt: skip
    text = json.dumps({"mcpServers": servers})
    assert own_commands(text, recognise("/home/a/.cursor/mcp.json", text)) == [
        ["npx", "x"],
        ["y", ""],
    ]
