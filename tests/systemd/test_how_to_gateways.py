"""What docs/gateway-service.md and docs/dev-server.md have somebody do, done."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.how_to import block, here
from tests.machine import (
    PROGRAM,
    SHELL,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    record_of,
    scope_directory,
    text_of,
)

from .manager import Units, main_pid, show, systemctl

pytestmark = pytest.mark.systemd

GATEWAY = """\
import os, socket, subprocess, time
helper = subprocess.Popen(["setsid", "sleep", "infinity"])
with open(f"{os.path.dirname(__file__)}/helper", "w") as file:
    file.write(str(helper.pid))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1))
    notify.send(b"READY=1")
time.sleep(10**6)
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A gateway of Type=notify that leaves a helper in a session of its own."""
    script = tmp_path / "my-gateway"
    script.write_text(f"#!{sys.executable}\n{GATEWAY}")
    script.chmod(0o755)
    return script


def test_a_service_by_its_unit_shows_and_ends_all_that_it_started(
    keeper: Scopekeeper, units: Units, gateway: Path
) -> None:
    text = block("gateway-service.md", "With `ExecStart=`", "ini")
    text = text.replace("/usr/bin/my-gateway", str(gateway))
    units.write("my-gateway.service", text.replace("=/usr/bin/scopekeeper", f"={PROGRAM}"))
    assert systemctl("start", "my-gateway.service").returncode == 0
    *lines, look = here(block("gateway-service.md", "Check it", "sh")).splitlines()
    printed = [subprocess.check_output(["sh", "-c", line], text=True) for line in lines]
    assert subprocess.run(["sh", "-c", look], capture_output=True).returncode == 0
    main, helper = main_pid("my-gateway.service"), int(text_of(gateway.parent / "helper"))
    assert f"pid {main}" in printed[1]
    inside = show("my-gateway.service", "ControlGroup") + "/scopekeeper-"
    assert all(cgroup_of(pid).startswith(inside) for pid in (main, helper))
    assert systemctl("stop", "my-gateway.service").returncode == 0
    assert not is_alive(main)
    eventually(lambda: not is_alive(helper))


def test_the_drop_in_has_the_lines_that_the_page_shows(keeper: Scopekeeper, units: Units) -> None:
    units.write("my-gateway.service", "[Service]\nExecStart=sleep infinity\n")
    try:
        done = keeper.call("install", "--gateway", "my-gateway.service")
        assert done.returncode == 0, done.stderr
        paths = show("my-gateway.service", "DropInPaths").split()
        (path,) = [each for each in paths if each.endswith("10-scopekeeper.conf")]
        shown = block("gateway-service.md", "With a drop-in", "ini").splitlines()
        written = text_of(path).replace(f"-{PROGRAM} ", "-scopekeeper ").splitlines()
        assert set(shown) <= set(written)
    finally:
        assert keeper.call("uninstall", "--gateway", "my-gateway.service").returncode == 0
        assert show("my-gateway.service", "DropInPaths") == ""
        assert keeper.call("uninstall").returncode == 0


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Put a stand-in for npm first in PATH, and be in a folder of the test's own."""
    (tmp_path / "npm").write_text('#!/bin/sh\ntest "$*" = "run dev" && exec sleep infinity\n')
    (tmp_path / "npm").chmod(0o755)
    path = f"{tmp_path}:{Path(PROGRAM).parent}:/usr/local/bin:/usr/bin:/bin"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SCOPEKEEPER_SHELL", shutil.which("sh") or "")
    monkeypatch.chdir(tmp_path)
    yield path
    systemctl("stop", "scopekeeper.service")


@pytest.mark.usefixtures("npm")
@pytest.mark.parametrize("title", ["Start it", "without a terminal"])
def test_a_dev_server_outlives_the_session_that_started_it(
    keeper: Scopekeeper, session: str, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    """By both commands of the page, each given as a command of an agent."""
    page = (Path(__file__).parents[2] / "docs" / "dev-server.md").read_text()
    lines = [line for line in page.splitlines() if "-s dev-server --lifetime detached" in line]
    (line,) = [each for each in lines if (" exec -d " in each) is (title == "Start it")]
    monkeypatch.setenv("SCOPEKEEPER_SESSION", session)
    gateway = keeper.popen(["sleep", "infinity"])
    monkeypatch.setenv("SCOPEKEEPER_OWNER", str(gateway.pid))
    done = subprocess.run([SHELL, "-c", f"{line}\nsleep infinity & true"], capture_output=False,
                          stdout=subprocess.DEVNULL, timeout=300)  # fmt: skip
    assert done.returncode == 0
    monkeypatch.delenv("SCOPEKEEPER_SESSION")
    monkeypatch.delenv("SCOPEKEEPER_OWNER")
    server = eventually(lambda: _sleeper("dev-server"))
    assert scope_directory(session)
    assert keeper.call("stop", "-s", session).returncode == 0
    gateway.kill()
    gateway.wait()
    assert keeper.call("reconcile").returncode == 0
    assert is_alive(server), "it was to outlive its session and its gateway"
    listed = keeper.call("ls", "-s", "dev-server").stdout.splitlines()[1].split()
    assert "kept" in listed
    assert "never" in listed
    assert keeper.call("stop", "-s", "dev-server").returncode == 0
    assert not is_alive(server)


def _sleeper(session: str) -> int:
    """Return the process of the one member of a session once it is the server, else 0."""
    directory = scope_directory(session)
    for leaf in Path(directory).glob("m-*") if directory else ():
        for pid in map(int, text_of(leaf / "cgroup.procs").split()):
            if text_of(f"/proc/{pid}/cmdline") == "sleep\0infinity\0":
                assert record_of(directory_of(pid).rpartition("/")[0])["SESSION"] == session
                return pid
    return 0
