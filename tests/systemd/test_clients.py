"""A server belongs to the client that talks to it, whatever stands between or around them."""

import os
import shlex
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
    state_of,
)

from .manager import Units, main_pid, systemctl

pytestmark = pytest.mark.systemd

CLIENT = """\
import os, subprocess, sys, time
os.environ["CLIENT"] = sys.argv[1]
subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
time.sleep(3600)
"""
HELPER = """\
import subprocess, sys
sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))
"""
DAEMON = """\
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.execv(sys.argv[1], sys.argv[1:])
"""

Launch = list[str]


def client(name: str, launch: Launch) -> Launch:
    """Return the command of a client that starts one server over pipes."""
    return [sys.executable, "-c", CLIENT, name, *launch]


def shell(command: Launch) -> Launch:
    """Return a shell that starts a command and waits for it, as Debian's does."""
    return ["sh", "-c", f"{shlex.join(command)}; :"]


def helper(command: Launch) -> Launch:
    return [sys.executable, "-c", HELPER, *command]


def bare(command: Launch) -> Launch:
    """Run a command without the environment that systemd gave, as cron does."""
    kept = ("PATH", "HOME", "XDG_RUNTIME_DIR")
    return ["env", "-i", *(f"{name}={os.environ.get(name, '')}" for name in kept), *shell(command)]


def daemon(command: Launch) -> Launch:
    return [sys.executable, "-c", DAEMON, *command]


def beside(*commands: Launch) -> tuple[str, ...]:
    """Return the main process of a service that starts commands and goes on as another program."""
    return ("sh", "-c", "".join(f"{shlex.join(each)} & " for each in commands) + "exec sleep 3600")


def server_of(name: str) -> int:
    """Return the pid of the server of the client of this name, 0 if it does not run."""
    for scope in scope_directories():
        for leaf in leaves(scope):
            for pid in processes(f"{scope}/{leaf}"):
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                is_its = f"CLIENT={name}".encode() in variables
                if is_its and record_of(f"{scope}/{leaf}").get("PID") == str(pid):
                    return pid
    return 0


def client_of(name: str) -> int:
    """Return the pid of a client."""
    wanted = f"\0{name}\0".encode()
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                arguments = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if arguments.startswith(f"{sys.executable}\0-c\0{CLIENT[:20]}".encode()) and (
                wanted in arguments
            ):
                return int(entry)
    return 0


def kill(pid: int, by: int = signal.SIGKILL) -> None:
    """End a client, and it alone, as a crash does."""
    os.kill(pid, by)
    eventually(lambda: state_of(pid) in ("", "Z"))


def reconcile(keeper: Scopekeeper) -> None:
    done = keeper.call("reconcile")
    assert done.returncode == 0, done.stdout + done.stderr


BETWEEN = {
    "nothing": list,
    "sh -c": shell,
    "two shells": lambda launch: shell(shell(launch)),
    "a runner as npx": lambda launch: [
        sys.executable, "-c", "import subprocess, sys; subprocess.call(sys.argv[1:])", *launch
    ],
    "env and timeout": lambda launch: ["env", "A=1", "timeout", "3600", *launch],
}  # fmt: skip


@pytest.mark.parametrize("between", BETWEEN)
def test_what_passes_its_stdin_on_is_not_the_client(
    keeper: Scopekeeper, session: str, between: str
) -> None:
    launch = BETWEEN[between](keeper.argv("-s", session, "--", *FOREVER))
    gone, stays = (keeper.popen(client(name, launch)) for name in ("gone", "stays"))
    servers = [eventually(lambda name=name: server_of(name)) for name in ("gone", "stays")]
    assert record_of(directory_of(servers[0]))["OWNER_PID"] == str(gone.pid)
    gone.kill()
    gone.wait()
    reconcile(keeper)
    assert not is_alive(servers[0])
    assert is_alive(servers[1])
    assert stays.poll() is None


def test_a_script_is_a_client_itself(keeper: Scopekeeper, session: str, tmp_path: Path) -> None:
    """Although its commands have its stdin too."""
    script = tmp_path / "script"
    script.write_text(shlex.join(keeper.argv("-s", session, "--", *FOREVER)) + "\n:\n")
    client_ = keeper.popen(client("above", ["sh", str(script)]))
    server = eventually(lambda: server_of("above"))
    assert int(record_of(directory_of(server))["OWNER_PID"]) != client_.pid


AROUND: dict[str, Callable[[Launch], Launch]] = {
    "a terminal": lambda command: ["bash", "-c", f"{shlex.join(command)}; :"],
    "cron": bare,
    "an editor": lambda command: helper(shell(command)),
    "a CI runner": lambda command: helper(helper(shell(shell(command)))),
    "nothing": list,
    "a daemon's parent that has ended": daemon,
}


@pytest.mark.parametrize("around", AROUND)
def test_a_client_in_a_service_that_is_not_its_own_ends_alone(
    keeper: Scopekeeper, units: Units, session: str, around: str
) -> None:
    unit = f"around-{uuid.uuid4().hex[:8]}.service"
    launch = [PROGRAM, "run", "-s", session, "--", *FOREVER]
    names = ("gone", "stays")
    units.run(unit, command=beside(*(AROUND[around](client(name, launch)) for name in names)))
    gone, stays = (eventually(lambda name=name: server_of(name)) for name in names)
    fields = record_of(directory_of(gone))
    assert fields["OWNER_PID"] == str(client_of("gone"))
    assert fields["OUTER_UNIT"] == unit
    assert "OWNER_UNIT" not in fields
    reconcile(keeper)
    assert is_alive(gone)
    kill(client_of("gone"))
    reconcile(keeper)
    assert not is_alive(gone)
    assert is_alive(stays)
    assert systemctl("stop", unit).returncode == 0
    eventually(lambda: not is_alive(stays))


@pytest.mark.parametrize("part", ["main process", "helper", "helper of a helper"])
def test_what_a_gateway_starts_through_its_own_helpers_is_the_gateways(
    keeper: Scopekeeper, units: Units, session: str, part: str
) -> None:
    unit = f"gateway-{uuid.uuid4().hex[:8]}.service"
    command = client("it", [PROGRAM, "run", "-s", session, "--", *FOREVER])
    for _ in range(("main process", "helper", "helper of a helper").index(part)):
        command = helper(command)
    units.run(unit, command=tuple(command))
    server = eventually(lambda: server_of("it"))
    assert record_of(directory_of(server))["OWNER_UNIT"] == unit
    os.kill(main_pid(unit), signal.SIGKILL)
    eventually(lambda: not is_alive(server))


@pytest.mark.parametrize("mode", ["process", "control-group"])
def test_a_client_that_outlives_the_service_around_it_keeps_its_servers(
    keeper: Scopekeeper, units: Units, session: str, mode: str
) -> None:
    """As cron's jobs do when cron is restarted."""
    unit = f"cron-{uuid.uuid4().hex[:8]}.service"
    launch = [PROGRAM, "run", "-s", session, "--", *FOREVER]
    command = beside(bare(client("job", launch)))
    units.run(unit, f"--property=KillMode={mode}", command=command)
    server = eventually(lambda: server_of("job"))
    job = client_of("job")
    assert systemctl("stop", unit).returncode == 0
    if mode == "process":
        reconcile(keeper)
        assert is_alive(job)
        assert is_alive(server)
        kill(job)
        reconcile(keeper)
    eventually(lambda: not is_alive(server))


def test_two_clients_in_one_service_replace_only_their_own(
    keeper: Scopekeeper, units: Units, session: str
) -> None:
    unit = f"terminal-{uuid.uuid4().hex[:8]}.service"
    launch = [PROGRAM, "run", "-s", session, "-n", "server", "--replace", "--", *FOREVER]
    units.run(unit, command=beside(*(bare(client(name, launch)) for name in ("one", "two"))))
    servers = [eventually(lambda name=name: server_of(name)) for name in ("one", "two")]
    assert all(map(is_alive, servers))
    done = keeper.call("stop", "--owner", unit)
    assert done.returncode == 0, done.stderr
    assert not any(map(is_alive, servers))
