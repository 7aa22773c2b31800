"""What ``wrap`` leaves alone, refuses or warns of, as a user sees it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from scopekeeper.doctor import mcp_servers
from scopekeeper.doctor.finding import Status
from tests.machine import eventually, text_of
from tests.unit.test_cli_wrap import call, installed, servers_in, write


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def test_servers_that_vs_code_debugs_or_sandboxes_are_left_with_the_reason(tmp_path):
    path = put(tmp_path / ".vscode/mcp.json", {"servers": {
        "debugged": {"command": "node", "args": ["x.js"], "dev": {"debug": {"type": "node"}}},
        "watched": {"command": "node", "args": ["x.js"], "dev": {"watch": "**/*.js"}},
        "sandboxed": {"command": "npx", "sandboxEnabled": True},
        "open": {"command": "npx", "sandboxEnabled": False},
        "far": {"type": "http", "url": "https://example.com"}, "old": {"type": "sse", "url": "u"},
    }})  # fmt: skip
    before = json.loads(path.read_text())["servers"]
    status, out, err = call(tmp_path, "wrap", path)
    after = json.loads(path.read_text())["servers"]
    assert status == 1
    assert [name for name in before if before[name] != after[name]] == ["watched", "open"]
    assert f"{path}: 'debugged' cannot be wrapped: VS Code debugs it (dev.debug), which" in err
    assert f"{path}: 'sandboxed' cannot be wrapped: VS Code runs it in a sandbox" in err
    assert [line.split()[1] for line in out.splitlines() if line.startswith(("far", "old"))] == [
        "remote", "remote"]  # fmt: skip
    leave = ["--except", "debugged", "--except", "sandboxed"]
    assert call(tmp_path, "wrap", path, *leave)[0] == 0
    assert call(tmp_path, "wrap", "--check", path, *leave)[0] == 0
    assert call(tmp_path, "wrap", "--check", path)[0] == 1


def test_a_client_in_a_sandbox_of_flatpak_is_left_unless_its_format_is_given(tmp_path):
    folder = tmp_path / ".var/app/com.visualstudio.code/config/Code/User"
    path = put(folder / "mcp.json", {"servers": {"a": {"command": "x"}}})
    before = path.read_bytes()
    for words in ([], ["--client", "vscode"], [path]):
        status, _, err = call(tmp_path, "wrap", *words)
        assert (status, path.read_bytes()) == (1, before)
        assert "'a' cannot be wrapped: its client runs in a sandbox of flatpak, where" in err
    assert call(tmp_path, "wrap", path, "--format", "vscode")[0] == 0
    assert call(tmp_path, "wrap", "--check")[0] == 0
    assert call(tmp_path, "unwrap")[0] == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", ["npx -y foo", ["nothing-here -y foo"]])
def test_a_command_with_its_arguments_in_one_word_is_warned_of(tmp_path, command):
    is_list = isinstance(command, list)
    data = {"mcp": {"a": {"command": command}}} if is_list else {"mcpServers": {"a": {
        "command": command}}}  # fmt: skip
    path = put(tmp_path / ("opencode.json" if is_list else ".mcp.json"), data)
    environment = {"PATH": "/usr/bin:/bin"}  # no npx
    program = installed(tmp_path / "bin")
    status, _, err = call(tmp_path, "wrap", "--program", program, path, **environment)
    word = command[0] if is_list else command
    assert status == 0
    assert f"{path}: a: there is no program '{word}': a command has no arguments; write each" in err


def test_nobody_writes_through_a_link_into_a_read_only_store_root_neither(tmp_path):
    stored = put(tmp_path / "store/claude.json", {"mcpServers": {"a": {"command": "x"}}})
    stored.chmod(0o444)
    before = stored.read_bytes()
    link = tmp_path / ".claude.json"
    link.symlink_to(stored)
    status, _, err = call(tmp_path, "wrap")
    assert (status, stored.read_bytes(), link.is_symlink()) == (1, before, True)
    assert f"{link}: is a link to {stored}, which is read-only; change it in what generates" in err
    assert [each.name for each in stored.parent.iterdir()] == ["claude.json"]
    stored.chmod(0o644)
    assert call(tmp_path, "wrap")[0] == 0
    assert (link.is_symlink(), servers_in(stored)["a"]["args"][0]) == (True, "run")


def test_a_running_client_that_writes_its_file_from_memory_is_named(tmp_path):
    own = put(tmp_path / ".claude.json", {"mcpServers": {"a": {"command": "x"}}})
    project = write(tmp_path / "p/.mcp.json", {"a": {"command": "x"}})
    client = stand_in(tmp_path)
    try:
        assert "memory" not in call(tmp_path, "wrap", project)[2]
        assert "memory" not in call(tmp_path, "wrap", own, "--dry-run")[2]
        _, out, err = call(tmp_path, "wrap", own)
        (line,) = [each for each in err.splitlines() if "from its memory" in each]
        assert "Claude Code (pid " in line
        assert str(client.pid) in line
        assert line.endswith("runs, and writes its file from its memory: that may undo this; end "
                             "it, and run this again")  # fmt: skip
        assert "Restart Claude Code" in out
        document = json.loads(call(tmp_path, "unwrap", own, "--json")[1])
        assert client.pid in document["may_undo"]["Claude Code"]
    finally:
        client.kill()
        client.wait()
    own.write_text('{"mcpServers": {"a": {"command": "y"}}}')
    assert "memory" not in call(tmp_path, "wrap", own)[2]


def stand_in(home, name="claude"):
    """Start a process with the name of a client, for which this is the home."""
    mine = os.environ | {"HOME": str(home)}
    client = subprocess.Popen([name, "1000"], executable=shutil.which("sleep"), env=mine)
    eventually(lambda: text_of(f"/proc/{client.pid}/cmdline").startswith(name))
    return client


def test_a_running_client_with_another_home_is_not_named(tmp_path):
    own = put(tmp_path / ".claude.json", {"mcpServers": {"a": {"command": "x"}}})
    client = stand_in(tmp_path / "other")
    try:
        _, out, err = call(tmp_path, "wrap", own)
        assert str(client.pid) not in out + err
    finally:
        client.kill()
        client.wait()


def findings(monkeypatch, home):
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(home)
    return list(mcp_servers.launchers())


def test_a_launcher_that_is_gone_makes_check_and_doctor_fail(tmp_path, monkeypatch):
    assert findings(monkeypatch, tmp_path) == []
    program = installed(tmp_path / "bin")
    own = put(tmp_path / ".cursor/mcp.json", {"mcpServers": {"a": {"command": "x"}}})
    goose = tmp_path / ".config/goose/config.yaml"
    goose.parent.mkdir(parents=True)
    goose.write_text("extensions:\n  b: {cmd: y, type: stdio}\n")
    assert findings(monkeypatch, tmp_path) == []
    options = ["--memory-max", "2G"]
    assert call(tmp_path, "wrap", "--program", program, *options)[0] == 0
    (found,) = findings(monkeypatch, tmp_path)
    assert (found.status, found.detail) == (
        Status.OK, "the launcher of each wrapped server exists: 2")  # fmt: skip
    assert call(tmp_path, "wrap", "--check")[0] == 0
    program.unlink()
    assert call(tmp_path, "wrap", "--check")[0] == 1
    gone = findings(monkeypatch, tmp_path)
    assert [each.status for each in gone] == [Status.LIMIT] * 2
    for each, path, name in zip(gone, (own, goose), "ab", strict=True):
        assert each.detail == f"{path}: {name}: there is no {program}, so that they do not start"
        assert each.fix == f"scopekeeper wrap --update {path} --memory-max 2G"
        assert call(tmp_path, *each.fix.split()[1:])[0] == 0
    assert call(tmp_path, "wrap", "--check")[0] == 0
    own.write_text("{")
    (found,) = findings(monkeypatch, tmp_path)
    assert found.status is Status.OK


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [("plugin/.mcp.json", ()), ("plugin/.claude-plugin/plugin.json", ("mcpServers",))],
)
def test_the_files_of_a_plugin_can_be_named(tmp_path, name, wrapped):
    servers = {"a": {"command": "${CLAUDE_PLUGIN_ROOT}/serve"}, "b": {"url": "u"}}
    data = {"name": "p", "mcpServers": servers} if wrapped else servers
    path = put(tmp_path / name, data)
    before = path.read_bytes()
    assert call(tmp_path, "wrap", path)[0] == 0
    found = json.loads(path.read_text())
    for key in wrapped:
        found = found[key]
    assert found["a"]["args"][-2:] == ["--", "${CLAUDE_PLUGIN_ROOT}/serve"]
    assert call(tmp_path, "wrap", "--check", path)[0] == 0
    assert call(tmp_path, "unwrap", path)[0] == 0
    assert path.read_bytes() == before


def test_a_workspace_and_a_dev_container_are_a_teams(tmp_path):
    (tmp_path / "repo/.git").mkdir(parents=True)
    servers = {"servers": {"a": {"command": "x"}}}
    for name, data in [
        ("shop.code-workspace", {"folders": [], "settings": {"mcp": servers}}),
        (".devcontainer/devcontainer.json", {"customizations": {"vscode": {"mcp": servers}}}),
    ]:
        path = put(tmp_path / "repo" / name, data)
        status, _, err = call(tmp_path, "wrap", path)
        assert (status, f"{path} is in a git work tree" in err) == (0, True)
        assert '"command": "scopekeeper"' in path.read_text()


def test_files_of_projects_in_other_forms_are_named(tmp_path):
    (tmp_path / ".git").mkdir()
    put(tmp_path / ".kiro/settings/mcp.json", {"mcpServers": {"a": {"command": "x"}}})
    block = tmp_path / ".continue/mcpServers/time.yaml"
    block.parent.mkdir(parents=True)
    block.write_text("name: t\nmcpServers:\n- name: time\n  command: uvx\n")
    home = tmp_path / "home"
    home.mkdir()
    _, _, err = call(tmp_path, "wrap", HOME=str(home))
    for path, name in [(tmp_path / ".kiro/settings/mcp.json", "a"), (block, "time")]:
        assert (
            f"{path} has servers that are not wrapped: {name}; run `scopekeeper wrap {path}`" in err
        )


def test_without_the_library_for_yaml_that_file_is_refused_and_the_others_are_wrapped(tmp_path):
    own = put(tmp_path / ".cursor/mcp.json", {"mcpServers": {"a": {"command": "x"}}})
    hermes = tmp_path / ".hermes/config.yaml"
    hermes.parent.mkdir()
    hermes.write_text("mcp_servers: {a: {command: x}}\n")
    unknown = tmp_path / "else.yaml"
    unknown.write_text("mcp_servers: {a: {command: x}}\n")
    block = tmp_path / "hidden/ruamel"
    block.mkdir(parents=True)
    (block / "__init__.py").write_text("raise ImportError\n")
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    environment = {"PYTHONPATH": f"{block.parent}:{root}"}
    told = "it is YAML, and the library that reads it, ruamel.yaml, is not installed; install it"
    for words, path in [([], hermes), ([unknown], unknown)]:
        status, _, err = call(tmp_path, "wrap", *words, **environment)
        assert (status, len(err.splitlines())) == (1, 1)
        assert f"scopekeeper: {path}: {told} beside scopekeeper: `pipx inject" in err
    assert servers_in(own)["a"]["args"][0] == "run"
    assert call(tmp_path, "wrap", "--check", **environment)[0] == 2


def test_reading_yaml_costs_only_those_who_have_it(tmp_path):
    put(tmp_path / ".cursor/mcp.json", {"mcpServers": {"a": {"command": "x"}}})
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "scopekeeper", "wrap", "--check"],
        cwd=tmp_path, env={"HOME": str(tmp_path), "PYTHONPATH": root}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "scopekeeper.mcp_configs.yaml" in done.stderr
    assert "ruamel" not in done.stderr
