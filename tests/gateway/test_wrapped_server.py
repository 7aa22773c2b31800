"""A client starts a server as its configuration says: wrapped or not, the server is the same."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

ROOT = Path(__file__).parents[2]
MIRROR = ROOT / "tests" / "gateway" / "mirror.py"
ARGUMENTS = ["", "--", "--name", "a b", "$HOME", "~", "é\n", "run"]
pytestmark = pytest.mark.mcp


@pytest.fixture
def config(tmp_path):
    """A client's file with one server, beside a launcher of this checkout."""
    program = tmp_path / "scopekeeper"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from scopekeeper.main import main\nmain()\n"
    )
    program.chmod(0o755)
    path = tmp_path / "claude_desktop_config.json"
    server = {
        "command": sys.executable,
        "args": [str(MIRROR), *ARGUMENTS],
        "env": {"PATH": "/usr/bin:/bin", "MARK": 'é "x"'},
        "cwd": str(tmp_path),
    }
    path.write_text(json.dumps({"mcpServers": {"mirror": server}}, indent=2))
    return path


async def ask(config, errors):
    """Be a client: start the server that the file names, and let it tell what it is."""
    server = json.loads(config.read_text())["mcpServers"]["mirror"]
    parameters = StdioServerParameters(**server)
    with errors.open("w") as stderr:
        async with (
            stdio_client(parameters, errlog=stderr) as streams,
            ClientSession(*streams) as session,
        ):
            await session.initialize()
            told = await session.call_tool("tell", {})
            return json.loads(told.content[0].text)


def wrap(config, *words):
    command = [config.parent / "scopekeeper", *words, config]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    "placement",
    [
        # a host without a user's manager warns and starts it all the same
        pytest.param("user", id="contained-or-not"),
        pytest.param("auto", id="contained", marks=pytest.mark.systemd),
    ],
)
def test_a_wrapped_server_has_the_same_arguments_environment_and_pipes(config, tmp_path, placement):
    errors = tmp_path / "stderr"
    document = json.loads(config.read_text())
    document["mcpServers"]["mirror"]["env"]["SCOPEKEEPER_PLACEMENT"] = placement
    config.write_text(json.dumps(document, indent=2))
    before = config.read_bytes()
    plain = asyncio.run(ask(config, errors))
    said = errors.read_text()
    assert plain["arguments"] == ARGUMENTS
    assert plain["environment"]["MARK"] == 'é "x"'
    assert plain["parent"] == os.getpid()

    wrap(config, "wrap", *(["--if-unavailable", "warn"] if placement == "user" else []))
    server = json.loads(config.read_text())["mcpServers"]["mirror"]
    assert server["command"] == str(config.parent / "scopekeeper")
    wrapped = asyncio.run(ask(config, errors))
    for told in (plain, wrapped):
        told["scope"] = told["environment"].get("SCOPEKEEPER_SCOPE")
        told["environment"] = {
            name: value
            for name, value in told["environment"].items()
            if not name.startswith("SCOPEKEEPER_")
        }
    assert plain.pop("scope") is None
    scope = wrapped.pop("scope")
    assert wrapped == plain
    # a warning that it is not contained may come before; nothing else does
    lines = [line for line in errors.read_text().splitlines() if "running uncontained" not in line]
    assert lines == said.splitlines() == ["mirror: started"]
    if placement == "auto":
        assert scope

    wrap(config, "unwrap")
    assert config.read_bytes() == before
