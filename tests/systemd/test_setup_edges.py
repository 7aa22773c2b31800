"""``setup`` and ``status`` on machines that are not as one would wish."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scopekeeper.kernel.children import children_of
from scopekeeper.mcp_configs.running import running
from tests.machine import PATIENCE, PROGRAM, ROOT, Scopekeeper, cgroup_of, eventually, is_alive

from .manager import main_pid, systemctl
from .test_setup import (  # noqa: F401  fixtures
    HOME,
    UNITS,
    Call,
    call,
    clients,
    differences,
    succeeds,
    tree,
)

pytestmark = pytest.mark.systemd

OPTION = "" if ROOT else " --user"
CURSOR = HOME / ".cursor/mcp.json"
CLIENT = """
import json, subprocess, sys
servers = json.load(open(sys.argv[1]))["mcpServers"].values()
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
words = [[each["command"], *each["args"]] for each in servers if "command" in each]
kids = [subprocess.Popen(each, **pipes) for each in words]
print("ready", flush=True)
sys.stdin.read()
for each in kids:
    each.kill()
"""
GATEWAY = """
import subprocess, time
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
subprocess.Popen(["mcp-server-time", "6673"], executable="/usr/bin/sleep", **pipes)
time.sleep(6673)
"""
OF_ITSELF = """
import subprocess, time
words = ["{program}", "run", "-s", "gw:one", "-n", "git", "--", "/usr/bin/sleep", "6678"]
subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
time.sleep(6678)
"""

Unit = Callable[[str, str], str]


def start(keeper: Scopekeeper, folder: Path) -> subprocess.Popen[bytes]:
    """Start a client of Cursor's name, which starts the servers of its file."""
    script = folder / "cursor"
    script.write_text(CLIENT)
    words = [sys.executable, "-IS", str(script), str(CURSOR)]
    client = keeper.popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    return client


def hands(call: Call, what: str) -> list[tuple[str, str]]:  # noqa: F811
    """Return what needs a hand of one client or unit, by ``status``."""
    document = json.loads(call("status", "--json").stdout)
    return [(e["detail"], e["command"]) for e in document["needs_a_hand"] if e["what"] == what]


def state_of(call: Call, what: str) -> tuple[str, str]:  # noqa: F811
    """Return the state and detail of one client or unit, by ``status``."""
    found = json.loads(call("status", "--json").stdout)["found"]
    (row,) = (each for each in found if each["what"] == what)
    return row["state"], row["detail"]


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_a_client_that_started_before_it_was_wrapped_is_named_until_it_starts_again(
    call: Call, keeper: Scopekeeper, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    client = start(keeper, tmp_path)
    said = succeeds(call("setup", "--yes"))
    assert f"  Cursor (pid {client.pid}): end it, and start it again\n" in said
    found = f"pid {client.pid} started before it was wrapped, 1 server in no scope"
    assert hands(call, "Cursor") == [(found, "end it, and start it again")]
    assert call("status").returncode == 1
    assert f"Cursor: {found}" in one_line(succeeds(call("setup", "--dry-run")))
    client.communicate(timeout=PATIENCE)

    client = start(keeper, tmp_path)
    (server,) = children_of(client.pid)
    eventually(lambda: "/scopekeeper-" in cgroup_of(server))
    assert hands(call, "Cursor") == []
    client.communicate(timeout=PATIENCE)


@pytest.fixture
def unit(keeper: Scopekeeper) -> Iterator[Unit]:
    """Give a function that runs a service of a command; all are gone afterwards."""
    assert keeper
    made = [each for each in (UNITS, *UNITS.parents) if not each.exists()]
    UNITS.mkdir(parents=True, exist_ok=True)
    names: list[str] = []

    def do(stem: str, command: str) -> str:
        name = f"{stem}-{os.urandom(4).hex()}.service"
        names.append(name)
        (UNITS / name).write_text(f"[Service]\nExecStart={command}\n")
        systemctl("daemon-reload")
        assert systemctl("start", name).returncode == 0
        return name

    yield do
    for name in names:
        systemctl("stop", name)
        (UNITS / name).unlink()
        shutil.rmtree(UNITS / f"{name}.d", ignore_errors=True)
    for folder in made:
        if folder.exists() and not [*folder.iterdir()]:
            folder.rmdir()
    systemctl("daemon-reload")


def test_gateways_of_known_clients_are_found_however_they_are_started(
    call: Call, unit: Unit, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    package = tmp_path / "hermes_cli"
    package.mkdir()
    (package / "main.py").write_text("import time\ntime.sleep(6674)\n")
    python = f"/usr/bin/env PYTHONPATH={tmp_path} {sys.executable} -m hermes_cli.main gateway run"
    opencode = tmp_path / "opencode"
    opencode.write_text("#!/bin/sh\nexec sleep 6675\n")
    opencode.chmod(0o755)
    script = tmp_path / "start"
    script.write_text(f"exec {python}\n")
    names = [
        unit("hermes", python),
        unit("serves", f"/bin/sh -c 'exec {opencode} serve'"),
        unit("scripted", f"/bin/sh {script}"),
        unit("other", "/usr/bin/sleep 6676"),
    ]
    eventually(lambda: main_pid(names[2]) in running(["hermes"]).get("hermes-agent", []))
    before = tree()
    said = succeeds(call("setup", "--yes"))
    for name in names[:3]:
        assert re.search(rf"{re.escape(name)} +add a drop-in", said)
        assert (UNITS / f"{name}.d/10-scopekeeper.conf").exists()
        restart = f"{name} (pid {main_pid(name)}): systemctl{OPTION} restart {name}"
        assert said.count(restart) == 1
    assert names[3] not in said
    succeeds(call("setup", "--undo"))
    assert not differences(before, history=False)


def test_a_gateway_that_nobody_knows_is_named_with_what_to_do(
    call: Call, unit: Unit, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    script = tmp_path / "my-gateway"
    script.write_text(GATEWAY)
    name = unit("my-gateway", f"{sys.executable} -IS {script}")
    start = f"ExecStart={PROGRAM} run -n gateway -- {sys.executable} -IS {script}"
    detail = f"1 MCP server runs in no scope; to contain all of it, set Delegate=yes and {start}"
    command = f"systemctl{OPTION} edit --full {name} && systemctl{OPTION} restart {name}"

    def is_named() -> bool:
        said = one_line(succeeds(call("setup", "--dry-run")))
        return f"{name}: {detail}" in said

    eventually(is_named)
    assert hands(call, name) == [(detail, command)]
    assert call("status", "--no-trunc").stdout.count(start) == 1
    # what it says to do is what mends it
    (UNITS / name).write_text(f"[Service]\nDelegate=yes\n{start}\n")
    systemctl("daemon-reload")
    assert systemctl("restart", name).returncode == 0
    eventually(lambda: "/m-gateway" in cgroup_of(main_pid(name)))
    assert [each for each in hands(call, name) if "in no scope" in each[0]] == []
    assert state_of(call, name) == ("contained", "its scopes end with it")
    assert f"{name} " not in succeeds(call("setup", "--dry-run")).partition("Contained")[0]
    processes = [main_pid(name), *eventually(lambda: children_of(main_pid(name)))]
    systemctl("stop", name)
    eventually(lambda: not any(map(is_alive, processes)))

    # without Delegate=, the scope lies beside the unit
    (UNITS / name).write_text(f"[Service]\n{start}\n")
    systemctl("daemon-reload")
    assert state_of(call, name) == ("not contained", "its scopes may outlive it")


def test_a_gateway_that_starts_its_servers_in_scopes_is_found_by_these(
    call: Call, unit: Unit, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    script = tmp_path / "my-gateway"
    script.write_text(OF_ITSELF.format(program=PROGRAM))
    name = unit("my-gateway", f"{sys.executable} -IS {script}")
    (server,) = eventually(lambda: children_of(main_pid(name)))
    eventually(lambda: "/m-git" in cgroup_of(server))
    assert f"{name}/" not in cgroup_of(server)
    assert state_of(call, name) == ("not contained", "its scopes may outlive it")
    assert call("status").returncode == 1
    before = tree()
    said = succeeds(call("setup", "--yes"))
    assert re.search(rf"{re.escape(name)} +add a drop-in", said)
    assert (UNITS / f"{name}.d/10-scopekeeper.conf").exists()
    assert state_of(call, name) == ("contained", "its scopes end with it")
    assert hands(call, name) == []
    succeeds(call("setup", "--undo"))
    assert not differences(before, history=False)


def test_a_folder_of_units_that_may_not_be_written_is_named_and_the_rest_is_done(
    call: Call, unit: Unit, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    script = tmp_path / "claude"
    script.write_text("#!/bin/sh\nexec sleep 6677\n")
    script.chmod(0o755)
    name = unit("claude", str(script))
    with read_only(UNITS):
        before = tree()
        said = one_line(succeeds(call("setup", "--dry-run")))
        reason = "is on a file system that is mounted read-only" if ROOT else "may not be written"
        assert f"only reconcile cleans up; its units cannot be written: {UNITS} {reason}" in said
        assert f"{name}: its scopes may outlive it, and no drop-in can be written: {UNITS}" in said
        done = call("setup", "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        assert "scopekeeper" in CURSOR.read_text()
        succeeds(call("setup", "--undo"))
        assert not differences(before, history=False)


def test_a_file_that_is_mounted_read_only_is_named(call: Call) -> None:  # noqa: F811
    before = tree()
    with read_only(CURSOR.parent):
        said = one_line(succeeds(call("setup", "--yes")))
        reason = ("is on a file system that is mounted read-only" if ROOT
                  else "is in a folder that may not be written")  # fmt: skip
        assert f"Cursor: 1 server is not wrapped: ~/.cursor/mcp.json {reason}" in said
        assert "scopekeeper" in (HOME / ".gemini/settings.json").read_text()
        succeeds(call("setup", "--undo"))
    assert not differences(before, history=False)


class read_only:  # noqa: N801  reads as what it does
    """Makes a folder read-only: for root by a mount, since modes do not stop root."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        self._mode = self._folder.stat().st_mode
        if not ROOT:
            self._folder.chmod(0o555)
            return
        subprocess.run(["mount", "--bind", self._folder, self._folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", self._folder], check=True)

    def __exit__(self, *_: object) -> None:
        if ROOT:
            subprocess.run(["umount", self._folder], check=True)
        else:
            self._folder.chmod(self._mode)
