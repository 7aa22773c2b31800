"""``setup --undo`` while a file cannot be read, or is gone: it forgets nothing that is there.

An editor, a client or a full disk leaves half a file; its user repairs it, and undoes then.
"""

import os
import shlex

import pytest

from scopekeeper.setup import record
from tests.unit.test_cli_setup import SIMPLE, call, home, tree  # noqa: F401  fixtures
from tests.unit.test_cli_wrap import SAMPLES
from tests.unit.test_cli_wrap import call as run

CODEX = 'model = "m"\n\n[mcp_servers.a]\ncommand = "x"\n'
FILES = {
    "codex": (".codex/config.toml", CODEX, ["servers", "hooks"]),
    "gemini": (".gemini/settings.json", SIMPLE, ["servers", "hooks"]),
    "claude": (".claude/settings.json", '{"model": "m"}', ["hooks"]),
}
BROKEN = {
    "cut": lambda text: b"{ broken",
    "empty lines and a bracket": lambda text: b"\n\n[[",
    "whole, with a bracket before it": lambda text: b"[[" + text,
    "no UTF-8": lambda text: b"\xff\xfe",
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("client", FILES)
def test_a_file_that_cannot_be_parsed_stays_recorded(home, call, client, broken):  # noqa: F811
    name, text, steps = FILES[client]
    path = home / name
    path.parent.mkdir()
    path.write_text(text)
    before = tree(home)
    assert call("--yes")[0] == 0
    whole = path.read_bytes()
    assert b"scopekeeper hook" in whole
    path.write_bytes(BROKEN[broken](whole))
    inode = path.stat().st_ino
    for words in (["--undo", "--dry-run"], ["--undo"], ["--undo"]):
        status, out, err = call(*words)
        assert (status, "left:" in out) == (1, False)
        lines = err.splitlines()
        assert len(lines) == len(steps)
        for line in lines:
            assert line.startswith(f"scopekeeper: not undone: {path}:")
            assert line.removeprefix(f"scopekeeper: not undone: {path}:")[0].isdigit()
        assert [each.step for each in record.load().entries] == steps
    assert path.stat().st_ino == inode
    path.write_bytes(whole)
    status, _, err = call("--undo")
    assert (status, err) == (0, "")
    assert tree(home) == before


@pytest.mark.skipif(not os.geteuid(), reason="root may read all files")
def test_a_file_that_may_not_be_read_stays_recorded(home, call):  # noqa: F811
    path = home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text("{}")
    before = tree(home)
    call("--yes")
    path.chmod(0)
    status, _, err = call("--undo")
    assert status == 1
    assert f"not undone: {path}: Permission denied" in err
    path.chmod(before[str(path)][0] & 0o777)
    assert call("--undo")[0] == 0
    assert tree(home) == before


def test_a_line_for_shell_commands_in_a_broken_file_stays_recorded(
    home,  # noqa: F811
    call,  # noqa: F811
    monkeypatch,
):
    program = home / "bin/scopekeeper"
    program.parent.mkdir()
    for name in ("scopekeeper", "scopekeeper-prefix"):
        (program.parent / name).write_text("#!/bin/sh\n")
        (program.parent / name).chmod(0o755)
    monkeypatch.setattr("scopekeeper.setup.step.installed", lambda: ("scopekeeper", str(program)))
    monkeypatch.setattr("scopekeeper.setup.shell_commands._PASSING", ("/nowhere/",))
    path = home / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text('{"model": "m"}')
    before = tree(home)
    call("--yes", "--shell-commands")
    whole = path.read_bytes()
    assert b"scopekeeper-prefix" in whole
    path.write_bytes(b"{ broken")
    status, _, err = call("--undo")
    assert status == 1
    assert err.count(f"not undone: {path}:1:3: ") == 2
    path.write_bytes(whole)
    assert call("--undo")[0] == 0
    assert tree(home) == before


@pytest.mark.parametrize(
    ("client", "commands"),
    [
        ("gemini", ["scopekeeper unwrap --hooks --client gemini", "scopekeeper unwrap {path}"]),
        ("claude", ["scopekeeper unwrap --hooks --client claude-code"]),
    ],
)
def test_a_file_that_is_gone_is_forgotten_with_the_command_for_later(
    home,  # noqa: F811
    call,  # noqa: F811
    client,
    commands,
):
    name, text, _ = FILES[client]
    path = home / name
    path.parent.mkdir()
    path.write_text(text)
    call("--yes")
    whole = path.read_bytes()
    path.unlink()
    status, out, err = call("--undo")
    assert (status, err) == (0, "")
    assert out == "".join(
        f"left: ~/{name} is gone; should it come back: {each.format(path=path)}\n"
        for each in commands
    )
    path.write_bytes(whole)
    for each in commands:
        assert run(home, *shlex.split(each.format(path=path))[1:])[0] == 0
    assert path.read_text() == text
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


@pytest.mark.parametrize("words", [["--undo", "--yes"], ["-y", "--undo"]])
def test_undo_accepts_yes_which_it_does_not_need(home, call, words):  # noqa: F811
    path = home / ".gemini/settings.json"
    path.parent.mkdir()
    path.write_text(SIMPLE)
    before = tree(home)
    call("--yes")
    assert call(*words)[0] == 0
    assert tree(home) == before


def test_undo_removes_what_a_killed_setup_has_left(home, call):  # noqa: F811
    path = home / ".gemini/settings.json"
    path.parent.mkdir()
    path.write_text(SIMPLE)
    before = tree(home)
    call("--yes")
    path.write_text(SIMPLE)  # as if it had been killed before its first rename
    left = path.with_name(".scopekeeper-0123456789ab.tmp")
    left.write_text(SIMPLE)
    os.utime(left, (1, 1))
    assert call("--undo", "--dry-run")[0] == 0
    assert left.exists()
    assert call("--undo")[0] == 0
    assert tree(home) == before


def test_a_configuration_of_openclaw_that_is_gone_is_named_too(home, call):  # noqa: F811
    path = home / ".openclaw/openclaw.json"
    path.parent.mkdir()
    text = (SAMPLES / "openclaw.json").read_text()
    path.write_text(text)
    call("--yes")
    whole = path.read_bytes()
    path.unlink()
    status, out, _ = call("--undo")
    command = "scopekeeper openclaw uninstall"
    assert status == 0
    assert f"left: ~/.openclaw/openclaw.json is gone; should it come back: {command}\n" in out
    path.write_bytes(whole)
    assert run(home, *command.split()[1:])[0] == 0
    assert path.read_text() == text
