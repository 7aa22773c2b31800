"""A server in each form of configuration runs in a scope, once wrapped, as its client starts it."""

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.machine import PROGRAM, Scopekeeper, eventually, record_of, scope_directory

pytestmark = pytest.mark.systemd

SERVER = "exec cat"
FORMS = {
    ".hermes/config.yaml": """\
# the user's own
mcp_servers:
  echo:   # answers
    command: sh
    args:
      - -c  # a script
      - &script 'exec cat'
  other: {url: "https://example.com/mcp", note: *script}
""",
    ".config/goose/config.yaml": """\
extensions:
  echo: {type: stdio, enabled: true, cmd: sh, args: [-c, "exec cat"]}
""",
    ".continue/config.yaml": "mcpServers:\n- name: echo\n  args: [-c, exec cat]\n  command: sh\n",
    ".config/opencode/opencode.json": """\
{ "mcp": { "echo": { "type": "local", "command": ["sh", /* posix */ "-c", "exec cat"], }, }, }
""",
    ".config/zed/settings.json": """\
{ "context_servers": { "echo": { "command": { "path": "sh", "args": ["-c", "exec cat"] } } } }
""",
    ".config/crush/crush.json": """\
{ "mcp": { "echo": { "type": "stdio", "command": "sh", "args": ["-c", "exec cat"] } } }
""",
}

OF_CODEX = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
"""The variables that Codex passes on to every server."""


def command_in(path: Path) -> list[str]:
    """Return the words that a client starts for the server ``echo`` of its file."""
    text = path.read_text()
    if path.suffix == ".yaml":
        data: Any = YAML(typ="safe", pure=True).load(text)
    else:
        text = text.replace("/* posix */", "")
        while text != (text := text.replace(", }", " }")):
            pass
        data = json.loads(text)
    (servers,) = data.values()
    server = servers[0] if isinstance(servers, list) else servers["echo"]
    command = server.get("command", server.get("cmd"))
    if isinstance(command, list):
        return command
    if isinstance(command, dict):
        return [command["path"], *command["args"]]
    return [command, *server["args"]]


@pytest.mark.parametrize("name", FORMS)
def test_it_answers_in_its_member_and_ends_with_the_client(
    keeper: Scopekeeper, session: str, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(FORMS[name])
    assert command_in(path) == ["sh", "-c", SERVER]
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    wrap = ["wrap", "--program", PROGRAM, "--session", session]
    done = keeper.call(*wrap, env=environment)
    assert done.returncode == 0, done.stderr
    server = subprocess.Popen(command_in(path), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin
    assert server.stdout
    server.stdin.write(b"question\n")
    server.stdin.flush()
    assert server.stdout.readline() == b"question\n"
    folder = Path(f"/proc/{server.pid}/cgroup").read_text().strip()
    assert scope_directory(session).rpartition("/")[2] in folder
    assert "/m-echo." in folder
    server.stdin.close()
    assert server.wait(10) == 0
    server.stdout.close()
    eventually(lambda: not scope_directory(session))
    assert keeper.call("unwrap", env=environment).returncode == 0
    assert path.read_text() == FORMS[name]


@pytest.mark.parametrize("own", ["", 'env_vars = ["EDITOR"] # mine\n'])
def test_codex_passes_the_session_that_its_launcher_names_on_to_a_server(
    keeper: Scopekeeper, session: str, tmp_path: Path, own: str
) -> None:
    path = tmp_path / ".codex/config.toml"
    path.parent.mkdir()
    text = f'[mcp_servers.echo]\ncommand = "sh"\nargs = ["-c", "{SERVER}"]\n{own}'
    path.write_text(text)
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = keeper.call("wrap", "--program", PROGRAM, env=environment)
    assert done.returncode == 0, done.stderr
    echo = tomllib.loads(path.read_text())["mcp_servers"]["echo"]
    named = {"SCOPEKEEPER_SESSION": session, "SCOPEKEEPER_LANE": "cron", "EDITOR": "vi"}
    client = {**os.environ, **named}
    passed = {name: client[name] for name in (*OF_CODEX, *echo["env_vars"]) if name in client}
    assert ("EDITOR" in passed) == bool(own)
    server = subprocess.Popen(
        [echo["command"], *echo["args"]], env=passed, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin
    assert server.stdout
    server.stdin.write(b"question\n")
    server.stdin.flush()
    assert server.stdout.readline() == b"question\n"
    scope = scope_directory(session)
    assert scope
    assert scope.rpartition("/")[2] in Path(f"/proc/{server.pid}/cgroup").read_text()
    assert record_of(scope)["LANE"] == "cron"
    server.stdin.close()
    assert server.wait(10) == 0
    server.stdout.close()
    assert keeper.call("unwrap", env=environment).returncode == 0
    assert path.read_text() == text
