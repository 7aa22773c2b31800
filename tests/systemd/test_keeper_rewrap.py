"""The rule ``rewrap``, kept by the keeper as it is installed, with all that its unit forbids it."""

import json
import os
import shutil
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import FOREVER, ROOT, Scopekeeper, eventually

from .installed import UNIT, Installed
from .manager import systemctl

pytestmark = pytest.mark.systemd
STRANGER = {"command": "cat", "args": ["-u"]}


@pytest.fixture
def config(keeper: Scopekeeper) -> Iterator[Path]:
    """Make a contained gateway in a profile of its own; return its configuration."""
    profile = f"test-{uuid.uuid4().hex[:8]}"
    made = Path("~").expanduser() / f".openclaw-{profile}" / "openclaw.json"
    made.parent.mkdir(mode=0o700)
    made.write_text('{"mcp": {"servers": {}}}')
    made.chmod(0o640)
    done = keeper.call("openclaw", "install", "--no-keeper", "--profile", profile)
    assert done.returncode == 0, done.stderr
    yield made
    shutil.rmtree(made.parent)


def add(config: Path, name: str) -> None:
    """Write a server as OpenClaw does: into a new file, which replaces the old one."""
    data = json.loads(config.read_text())
    data["mcp"]["servers"][name] = STRANGER
    new = config.with_name("openclaw.json.tmp")
    new.write_text(json.dumps(data))
    new.chmod(0o640)
    new.rename(config)


def server(config: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(config.read_text())["mcp"]["servers"][name]
    return found


def is_wrapped(config: Path, name: str) -> bool:
    return bool(server(config, name)["args"][:1] == ["run"])


def said_of(config: Path) -> list[str]:
    """Return what the keeper's journal has of a file."""
    words = ["journalctl", *([] if ROOT else ["--user"]), "-u", UNIT, "--no-pager", "-o", "cat"]
    done = subprocess.run(words, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if str(config) in line]


def test_a_server_that_is_added_beside_a_keeper_is_wrapped_only_by_the_rule(
    keeper: Scopekeeper, installed: Installed, config: Path, session: str
) -> None:
    rules = Path(os.environ["SCOPEKEEPER_CONFIG"])
    rules.mkdir()
    (rules / "config.toml").write_text("")
    keeper.member("-s", session, "--", *FOREVER)
    systemctl("start", UNIT)
    first = eventually(lambda: installed.pid)
    add(config, "first")
    keeper.member("-s", session, "-n", "other", "--", *FOREVER)
    assert server(config, "first") == STRANGER
    (rules / "config.toml").write_text("rewrap = true\n")
    eventually(lambda: is_wrapped(config, "first"))
    add(config, "second")
    eventually(lambda: is_wrapped(config, "second"))
    mode = stat.S_IMODE(config.stat().st_mode)
    assert (mode, config.stat().st_gid) == (0o640, os.getgid())
    lines = [f"{config}: server {name} has appeared, and was wrapped"
             for name in ("first", "second")]  # fmt: skip
    eventually(lambda: said_of(config) == lines)
    assert installed.pid == first
