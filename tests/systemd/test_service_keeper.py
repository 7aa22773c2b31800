"""The keeper starts with a service's first scope, in the service's own cgroup or beside it.

A killed gateway then comes back without waiting for ``TimeoutStopSec=``.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import (
    PROGRAM,
    ROOT,
    Scopekeeper,
    cgroup_of,
    eventually,
    is_alive,
    scope_directories,
    text_of,
)

from .installed import FILES, UNIT, Installed
from .manager import UNIT_FOLDER, Units, main_pid, scope_units, show, state, systemctl, uid_of

pytestmark = pytest.mark.systemd

DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
time.sleep(10**6)
"""
"""A helper that ignores SIGTERM."""
GATEWAY = """\
#!{python}
import subprocess, sys, time
deaf = [sys.executable, "-c", {deaf!r}]
run = [{program!r}, "run", "-s", {session!r}, "-n", "tool", "--kind", "mcp", "--"]
subprocess.Popen([*deaf, {left!r}], start_new_session=True)
subprocess.Popen([*run, *deaf, {server!r}], stdin=subprocess.PIPE)
time.sleep(10**6)
"""
LAB = uid_of("lab")
SHORT = '[lanes.default]\nabandoned_grace = "10ms"\nleader_grace = "10ms"\ngrace = "10ms"\n'


@pytest.fixture
def name(session: str) -> str:
    """Name the service of a test."""
    return f"gateway-{session[-8:]}.service"


@pytest.fixture
def gateway(session: str, tmp_path: Path) -> Path:
    """A gateway with a helper and a server that both ignore SIGTERM and write their pids."""
    notes = {name: str(tmp_path / name) for name in ("left", "server")}
    script = tmp_path / "gateway"
    script.write_text(
        GATEWAY.format(python=sys.executable, deaf=DEAF, program=PROGRAM, session=session, **notes)
    )
    script.chmod(0o755)
    return script


def install(units: Units, name: str, session: str, command: object, *more: str) -> None:
    """Write a gateway's service that scopekeeper starts."""
    wrapped = f"ExecStart={PROGRAM} run -s {session} -n gateway -- {command}"
    path = f"Environment=PATH={os.environ['PATH']}"
    config = (
        f"Environment=SCOPEKEEPER_CONFIG={os.environ.get('SCOPEKEEPER_CONFIG', '/nonexistent')}"
    )
    units.write(name, "\n".join(["[Service]", "Type=exec", path, config, *more, wrapped, ""]))


def helpers_of(gateway: Path) -> set[int]:
    """Return the pids that the helpers of this life of the gateway have written, once both have."""
    notes = [text_of(gateway.parent / name).strip() for name in ("left", "server")]
    return set(map(int, notes)) if all(notes) else set()


@pytest.mark.parametrize("delegate", ["yes", "no"])
def test_the_first_scope_of_a_service_starts_the_keeper(
    installed: Installed, session: str, units: Units, name: str, delegate: str
) -> None:
    install(units, name, session, "/usr/bin/sleep infinity", f"Delegate={delegate}")
    assert state(UNIT) == "inactive"
    assert systemctl("start", name).returncode == 0
    eventually(lambda: state(UNIT) == "active")
    assert scope_directories()
    assert bool(scope_units()) is (delegate == "no"), "systemd has a unit of it"


def test_a_masked_keeper_keeps_no_service_from_starting(
    installed: Installed, session: str, units: Units, name: str
) -> None:
    (UNIT_FOLDER / UNIT).unlink()
    (UNIT_FOLDER / UNIT).symlink_to(os.devnull)
    assert systemctl("daemon-reload").returncode == 0
    assert show(UNIT, "LoadState") == "masked"
    install(units, name, session, "/usr/bin/sleep infinity", "Delegate=yes")
    assert systemctl("start", name).returncode == 0
    inside = show(name, "ControlGroup") + "/scopekeeper-"
    eventually(lambda: cgroup_of(main_pid(name)).startswith(inside))
    assert state(UNIT) == "inactive"


def test_a_killed_gateway_comes_back_although_its_helpers_ignore_sigterm(
    installed: Installed, keeper: Scopekeeper, session: str, units: Units, name: str, gateway: Path
) -> None:
    """systemd alone would wait for ever: TimeoutStopSec= is 90 s if nobody sets it."""
    rules = Path(os.environ["SCOPEKEEPER_CONFIG"])
    rules.mkdir()
    (rules / "config.toml").write_text(SHORT)
    more = ("Delegate=yes", "TimeoutStopSec=infinity", "Restart=always", "RestartSec=10ms")
    install(units, name, session, gateway, *more)
    assert systemctl("start", name).returncode == 0
    helpers = eventually(lambda: helpers_of(gateway))
    first = main_pid(name)
    inside = show(name, "ControlGroup") + "/scopekeeper-"
    assert all(cgroup_of(pid).startswith(inside) for pid in (first, *helpers))
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, helpers)))
    eventually(lambda: main_pid(name) not in (0, first) and state(name) == "active")
    wanted = {("tool", "owner gone"), ("gateway", "owner gone")}
    eventually(lambda: wanted <= set(installed.ends(session)))


@pytest.mark.skipif(not ROOT, reason="only root has services of the system's manager")
def test_a_system_service_of_a_user_starts_the_keeper_of_that_user(
    keeper: Scopekeeper, session: str, units: Units, name: str
) -> None:
    """Its scope lies below the system's manager; the keeper is a service of the user's."""
    folder = Path(f"/run/user/{LAB}/systemd/user")
    folder.mkdir(parents=True, exist_ok=True)
    text = (FILES / UNIT).read_text()
    (folder / UNIT).write_text(text.replace("=scopekeeper keeper", f"={PROGRAM} keeper"))
    try:
        assert of_lab("daemon-reload").returncode == 0
        assert of_lab("is-active", UNIT).stdout == "inactive\n"
        install(units, name, session, "/usr/bin/sleep infinity", "Delegate=yes", f"User={LAB}")
        assert systemctl("start", name).returncode == 0
        inside = show(name, "ControlGroup") + "/scopekeeper-"
        eventually(lambda: cgroup_of(main_pid(name)).startswith(inside))
        eventually(lambda: of_lab("is-active", UNIT).stdout == "active\n")
        assert state(UNIT) == "inactive", "it is not root's"
    finally:
        of_lab("stop", UNIT)
        (folder / UNIT).unlink()
        of_lab("daemon-reload")


def of_lab(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl for the manager of lab, as root."""
    drop = ["setpriv", f"--reuid={LAB}", f"--regid={LAB}", "--init-groups", "--"]
    runtime = {"XDG_RUNTIME_DIR": f"/run/user/{LAB}", "PATH": os.environ["PATH"]}
    return subprocess.run(
        [*drop, "systemctl", "--user", *words],
        capture_output=True, text=True, timeout=180, env=runtime,
    )  # fmt: skip
