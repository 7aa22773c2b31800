"""What ``scopekeeper uninstall`` ends with: what stays, and the command for it.

The manager is not there: tests/systemd/test_install.py has all of it.
"""

import json

import pytest

from scopekeeper.cli import uninstall
from scopekeeper.cli.main import group
from scopekeeper.install.apply import Applied

WRAPPED = {"command": "scopekeeper", "args": ["run", "--name", "a", "--", "x"]}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home whose clients are wrapped, and a project of theirs; nothing is installed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(uninstall, "Systemctl", lambda *_: None)
    monkeypatch.setattr(uninstall, "uninstall", lambda *_, **__: Applied(removed=["/a.service"]))
    project = tmp_path / "it's a project"
    data = {
        tmp_path / ".claude.json": {"mcpServers": {"a": WRAPPED, "b": WRAPPED, "c": {}},
                                    "projects": {str(project): {}}},
        tmp_path / ".cursor/mcp.json": {"mcpServers": {"a": WRAPPED}},
        tmp_path / ".gemini/settings.json": {"mcpServers": {"a": {"command": "x"}}},
        project / ".mcp.json": {"mcpServers": {"p": WRAPPED}},
    }  # fmt: skip
    for path, text in data.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(text))
    return tmp_path


@pytest.fixture
def call(home, capsys):
    """Return standard output and standard error of a call."""

    def do(*words):
        uninstall.command.main(words, standalone_mode=False, **group.context_settings)
        return capsys.readouterr()

    return do


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_servers_that_are_still_wrapped_are_named_with_the_command(home, call, words):
    done = call(*words)
    own = (f"3 servers are still wrapped in {home}/.claude.json, {home}/.cursor/mcp.json; run "
           "`scopekeeper unwrap` before you remove scopekeeper")  # fmt: skip
    path = f"{home}/it's a project/.mcp.json"
    quoted = path.replace("'", "'\"'\"'")
    theirs = f"1 server is still wrapped in {path}; run `scopekeeper unwrap '{quoted}'` before"
    assert own in done.err
    assert theirs in done.err


def test_json_has_them_too(home, call):
    (home / "state/runs").mkdir(parents=True)
    (home / "state").chmod(0o700)
    told = json.loads(call("--json").out)
    assert [each["servers"] for each in told["still_wrapped"]] == [["a", "b"], ["a"], ["p"]]
    assert told["still_wrapped"][0] == {
        "path": f"{home}/.claude.json", "servers": ["a", "b"], "command": "scopekeeper unwrap",
    }  # fmt: skip
    assert told["state"] == f"{home}/state"


def test_the_folder_of_the_history_is_named(home, call):
    assert "history" not in call().out
    (home / "state").mkdir(0o700)
    assert "history" not in call().out
    (home / "state/history.db").touch()
    said, remove = f"{home}/state stays, with the history", f"to remove it: rm -r {home}/state\n"
    assert f"{said} and the output of runs; {remove}" in call().out
    (home / "state/backups").mkdir()
    assert f"{said}, the output of runs and backups of `wrap`; {remove}" in call().out


def test_without_wrapped_servers_and_for_one_gateway_nothing_is_said(home, call):
    assert "wrapped" not in call("--gateway", "x.service").err
    for path in home.rglob("*.json"):
        path.unlink()
    assert call().err == ""


def test_hooks_that_are_still_registered_are_named_with_the_command(home, call):
    (home / ".claude").mkdir()
    command = "scopekeeper hook claude SessionEnd"
    item = {"hooks": [{"type": "command", "command": command}]}
    path = home / ".claude/settings.json"
    path.write_text(json.dumps({"hooks": {"SessionEnd": [item]}}))
    words = f"1 hook is still registered in {path}; run `scopekeeper unwrap --hooks` before you"
    assert words in call().err
    assert json.loads(call("--json").out)["hooks"] == [
        {"path": str(path), "events": ["SessionEnd"], "command": "scopekeeper unwrap --hooks"}
    ]
    assert "hook" not in call("--gateway", "x.service").err


@pytest.mark.parametrize(
    ("variable", "program", "is_named"),
    [
        ("CLAUDE_CODE_SHELL_PREFIX", "/usr/bin/scopekeeper-prefix", True),
        ("CLAUDE_CODE_SHELL_PREFIX", "scopekeeper-prefix", True),
        ("CLAUDE_CODE_SHELL", "/home/a/.local/share/scopekeeper/shells/bash", True),
        ("CLAUDE_CODE_SHELL_PREFIX", "/usr/bin/logger", False),
        ("CLAUDE_CODE_SHELL", "/bin/bash", False),
        ("CLAUDE_CODE_SHELL_PREFIX", ["scopekeeper-prefix"], False),
    ],
)
def test_a_program_that_claude_code_needs_is_named(home, call, variable, program, is_named):
    path = home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"env": {variable: program}}))
    line = (
        f"{path} names {program} as {variable}; remove that line before you remove scopekeeper: "
        "Claude Code starts no command without it"
    )
    assert (line in call().err) is is_named
    assert line not in call("--gateway", "a.service").err


@pytest.mark.parametrize("text", ["", "[]", "{", '{"env": []}', '{"env": 1}', "[" * 99_999])
def test_settings_that_cannot_be_read_name_nothing(home, call, text):
    path = home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text(text)
    assert "names" not in call().err
