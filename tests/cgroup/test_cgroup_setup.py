"""``setup`` and ``status`` where there is no systemd."""

import json
import os
from pathlib import Path

import pytest

from .container import Container

pytestmark = pytest.mark.systemd  # the lab's machine has the cgroup to delegate

SERVER = {"mcpServers": {"time": {"command": "sleep", "args": ["6678"]}}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home with Cursor and Claude Code."""
    home = tmp_path / "home"
    (home / ".cursor").mkdir(parents=True)
    (home / ".cursor/mcp.json").write_text(json.dumps(SERVER))
    (home / ".claude").mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in [each for each in os.environ if each.startswith("XDG_")]:
        monkeypatch.delenv(name)
    return home


def files(top: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in top.rglob("*") if each.is_file()}


def test_all_but_units_is_done_and_taken_back(container: Container, home: Path) -> None:
    before = files(home)
    said = container.call("setup", "--dry-run")
    assert said.returncode == 0, said.stderr
    assert (
        "systemd does not run here: services are not looked at, and nothing starts a keeper by "
        "itself.\n" in said.stdout
    )
    assert "      scopekeeper keeper --linger infinity &\n" in said.stdout
    done = container.call("setup", "--yes", "--shell-commands")
    assert done.returncode == 0, done.stderr
    assert "Checked: scopekeeper works here" in done.stdout
    assert "scopekeeper" in (home / ".cursor/mcp.json").read_text()
    status = container.call("status")
    assert status.returncode == 1, status.stderr
    assert "services not looked at: systemd does not run here\n" in status.stdout
    assert "1 server wrapped" in status.stdout
    (hand,) = json.loads(container.call("status", "--json").stdout)["needs_a_hand"]
    assert (hand["what"], hand["command"]) == ("keeper", "scopekeeper keeper --linger infinity &")
    done = container.call("setup", "--undo")
    assert done.returncode == 0, done.stderr
    assert files(home) == before
