"""What ``setup`` and ``status`` report of a file names it, the place and the reason; none hangs.

A command is offered only if it can work.
"""

import json
import os
import re
import subprocess
import sys

import click
import pytest

from tests.unit.test_cli_setup import SIMPLE, call, home, tree  # noqa: F401  fixtures
from tests.unit.test_cli_wrap import ROOT
from tests.unit.test_setup_shell_commands import claude, program, start  # noqa: F401  fixtures

AT_MOST = 60
"""Seconds for a command that must not hang."""
MINE = """
[mine]
title = "Mine"
short = "mine"
programs = ["mine"]
[mine.servers]
language = "jsonc"
places = [["mcpServers"]]
files = ["$HOME/.mine/settings.json"]
[mine.hooks]
end = ["bye"]
[mine.hook_settings]
events = ["bye"]
folders = ["$HOME/.mine"]
file = "settings.json"
"""


def flat(text):
    """Return a text with one blank for each line end and indent."""
    return " ".join(text.split())


@pytest.mark.parametrize("words", ["status", "doctor", "setup --dry-run", "uninstall --dry-run",
                                   "wrap --hooks --check", "unwrap --dry-run"])  # fmt: skip
@pytest.mark.parametrize("name", [".claude/settings.json", ".claude.json"])
def test_a_fifo_in_place_of_a_file_blocks_no_command(tmp_path, words, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    ran = subprocess.run(
        [sys.executable, "-m", "scopekeeper", *words.split()], cwd=tmp_path, timeout=AT_MOST,
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT),
             "SCOPEKEEPER_STATE": str(tmp_path / "state")},
    )  # fmt: skip
    assert "Traceback" not in ran.stderr


def test_a_folder_in_place_of_the_settings_is_named(home, call):  # noqa: F811
    (home / ".claude/settings.json").mkdir(parents=True)
    out = flat(call("--dry-run")[1])
    assert "Claude Code hooks: ~/.claude/settings.json: Is a directory" in out
    path, hooks = home / ".claude/settings.json", "wrap --hooks --client claude-code"
    assert f"correct {path}, then: scopekeeper {hooks}" in out


def test_a_broken_file_is_named_with_the_place(home, call):  # noqa: F811
    (home / ".claude").mkdir()
    (home / ".claude/settings.json").write_text('{\n  "a": 1,\n')
    (home / ".claude.json").write_text('{\n  "mcpServers": {"a": {"command": 7, }')
    out = flat(call("--dry-run")[1])
    assert "Claude Code: its file cannot be read: ~/.claude.json:2:36: a comma before }" in out
    assert f"correct {home}/.claude.json, then: scopekeeper wrap {home}/.claude.json" in out
    ends = "~/.claude/settings.json:3:1: the file ends where a key or } is expected"
    assert f"Claude Code hooks: {ends}" in out
    assert f"its shell commands run in no scope: {ends}" in out
    again = f"correct {home}/.claude/settings.json, then: scopekeeper setup --shell-commands"
    assert again in out


def test_hooks_that_can_not_be_registered_are_named_if_the_servers_can_be_read(
    home,  # noqa: F811
    call,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(home / "config"))
    (home / "config").mkdir()
    (home / "config/clients.toml").write_text(MINE)
    (home / ".mine").mkdir()
    (home / ".mine/settings.json").write_text('{\n  // mine\n  "mcpServers": {}\n}\n')
    out = flat(call("--dry-run")[1])
    assert (
        "Mine hooks: ~/.mine/settings.json:2:3: a comment, which JSON does not allow correct" in out
    )
    assert (
        f"correct {home}/.mine/settings.json, then: scopekeeper wrap --hooks --client mine" in out
    )
    (home / ".mine/settings.json").write_text("{ broken")
    out = call("--dry-run")[1]
    assert (out.count("Mine: "), out.count("Mine hooks")) == (1, 0)


def test_a_broken_file_of_a_project_is_named(home, call, monkeypatch):  # noqa: F811
    project = home / "shop"
    project.mkdir()
    (project / ".mcp.json").write_text('{"mcpServers": }')
    monkeypatch.chdir(project)
    status, out, _ = call("--dry-run")
    assert "a project's file cannot be read: ~/shop/.mcp.json:1:16: '}' where a value" in flat(out)
    assert f"correct {project}/.mcp.json, then: scopekeeper wrap {project}/.mcp.json" in flat(out)
    assert status == 0


def test_all_hooks_are_counted_and_what_was_edited_is_named(home, call):  # noqa: F811
    path = home / ".gemini/settings.json"
    path.parent.mkdir()
    path.write_text('{"theme": "dark"}')
    before = tree(home)
    out = call("--yes")[1]
    assert "add 2 hooks" in out
    assert "~/.gemini/settings.json: 2 hooks added (SessionStart, SessionEnd)" in out
    assert "A rewritten file is beside it as it was: FILE.before-scopekeeper." in out
    path.write_text(path.read_text().replace("dark", "light"))
    for words in (["--undo", "--dry-run"], ["--undo"]):
        status, out, _ = call(*words)
        assert status == 0
        assert "~/.gemini/settings.json: its hooks are removed\n" in out
        assert out.count("left: ~/.gemini/settings.json: what was edited since setup stays\n") == 1
    assert path.read_text() == '{"theme": "light"}'
    path.write_text('{"theme": "dark"}')
    call("--yes")
    assert "left:" not in call("--undo")[1]
    assert tree(home) == before


@pytest.mark.parametrize("more", [[], ["--shell-commands"]])
def test_a_file_that_setup_makes_has_no_backup_and_is_removed(claude, home, call, more):  # noqa: F811
    before = tree(home)
    out = call("--yes", *more)[1]
    assert "made, with 1 hook (SessionEnd)" in out
    assert ("A rewritten file" in out) is bool(more)
    for words in (["--undo", "--dry-run"], ["--undo"]):
        out = call(*words)[1]
        assert "~/.claude/settings.json: removed\n" in out, words
        assert "its hook is removed" not in out
        assert "left:" not in out
    assert tree(home) == before


def test_the_line_for_shell_commands_has_a_name_of_its_own(claude, home, call):  # noqa: F811
    claude.write_text("{}")
    (home / ".claude.json").write_text(SIMPLE)
    out = call("--yes", "--shell-commands")[1]
    assert re.search(
        r"^Claude Code shell commands +add a line +~/.claude/settings.json$", out, re.MULTILINE
    )
    out = flat(call("--dry-run")[1])
    assert "Contained already: Claude Code, Claude Code hooks, Claude Code shell commands" in out


def test_a_client_that_writes_from_its_memory_is_named_before_the_question(
    home,  # noqa: F811
    call,  # noqa: F811
    start,  # noqa: F811
):
    (home / ".claude.json").write_text(SIMPLE)
    client = start()
    out = flat(call("--dry-run")[1])
    assert f"Claude Code: it runs (pid {client.pid}), and writes ~/.claude.json from its" in out
    assert "which may undo this: end it first" in out
    assert "from its memory: that may undo this" in flat(call("--yes")[2])
    assert json.loads((home / ".claude.json").read_text())["mcpServers"]["a"]["args"][0] == "run"


def test_an_undo_asks_only_those_to_restart_that_read_what_setup_wrote(
    home,  # noqa: F811
    call,  # noqa: F811
    start,  # noqa: F811
):
    (home / ".claude.json").write_text(SIMPLE)
    earlier = start()
    call("--yes")
    later = start()
    out = call("--undo")[1]
    assert f"(pid {later.pid})" in out
    assert str(earlier.pid) not in out


@pytest.mark.parametrize("name", [".claude/settings.json", ".cursor/mcp.json"])
def test_an_undo_leaves_nothing_of_a_setup_that_was_killed_before_its_rename(
    home,  # noqa: F811
    call,  # noqa: F811
    monkeypatch,
    name,
):
    path = home / name
    path.parent.mkdir()
    path.write_text(SIMPLE)
    before = tree(home)
    rename, entries = os.rename, []

    def killed(old, new, **folders):
        if os.path.basename(new) != path.name:
            return rename(old, new, **folders)
        entries.extend((home / ".local/state/scopekeeper/setup.json").read_text())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        patch.setattr(os, "unlink", lambda *_, **__: None)  # as if it could not clean up
        with pytest.raises(click.Abort):
            call("--yes")
    assert entries
    assert len(list(path.parent.iterdir())) > 1
    assert call("--undo")[0] == 0
    assert tree(home) == before
