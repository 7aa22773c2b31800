"""The extension for Gemini CLI: the client reads its files, and its hooks harm nobody."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scopekeeper.version import __version__
from tests.machine import text_of

FOLDER = Path(__file__).parents[2] / "scopekeeper/clients/gemini"
EVENTS = ["SessionStart", "SessionEnd"]


def load(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def command_of(event):
    (group,) = load("hooks/hooks.json")["hooks"][event]
    (hook,) = group["hooks"]
    return hook["command"]


def test_the_manifest_has_the_fields_that_the_client_reads():
    manifest = load("gemini-extension.json")
    assert set(manifest) == {"name", "version", "description"}
    assert re.fullmatch("[a-z0-9-]+", manifest["name"])
    assert manifest["version"] == __version__, "clients update when it changes"


def test_hooks_lie_where_the_client_looks_for_them():
    assert set(load("hooks/hooks.json")) == {"hooks"}
    assert list(load("hooks/hooks.json")["hooks"]) == EVENTS
    for (group,) in load("hooks/hooks.json")["hooks"].values():
        assert set(group) == {"hooks"}
        ((hook,)) = group["hooks"]
        assert set(hook) == {"name", "type", "command", "timeout"}
        assert (hook["type"], hook["timeout"]) == ("command", 5000)
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert files == {"gemini-extension.json", "hooks/hooks.json", "README.md"}


def test_no_file_has_an_address():
    assert not any("://" in path.read_text() for path in FOLDER.rglob("*") if path.is_file())


def call(event, folder, shell, text="{}"):
    """Run a hook as Gemini CLI does, with the event on stdin."""
    return subprocess.run(
        [shell, "-c", command_of(event)], input=text, capture_output=True, text=True,
        env={"PATH": str(folder)}, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("event", EVENTS)
def test_a_hook_becomes_scopekeeper_with_the_event_on_stdin(tmp_path, event, shell):
    program = tmp_path / "scopekeeper"
    program.write_text(f'#!/bin/sh\nread -r event\necho "$* $event $PPID" > {tmp_path}/call\n')
    program.chmod(0o755)
    done = call(event, tmp_path, shell, '{"reason":"exit"}\n')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    words = text_of(tmp_path / "call").split()
    assert words[:-1] == ["hook", "gemini", event, '{"reason":"exit"}']
    status = Path("/proc/self/status").read_text()
    assert f"\nPid:\t{words[-1]}\n" in status, "its parent is the client, no shell"


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("event", EVENTS)
def test_without_scopekeeper_a_hook_does_nothing(tmp_path, event, shell):
    (tmp_path / "cat").symlink_to(shutil.which("cat"))
    done = call(event, tmp_path, shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
