"""A server in each form of configuration runs in a scope, once wrapped, as its client starts it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.machine import PROGRAM, Scopekeeper, eventually, scope_directory

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
