"""``ExecStart=scopekeeper run …``: systemd sees the command as the service's own main process."""

import json
import os
import shlex
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    processes,
    record_of,
    scope_directories,
    scope_directory,
    signal_set,
    text_of,
)

from .manager import Units, main_pid, show, state, systemctl

pytestmark = pytest.mark.systemd

NOTIFY = """
import os, socket, sys, time
print("before", flush=True)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
    address = os.environ["NOTIFY_SOCKET"]
    channel.connect("\\0" + address[1:] if address[0] == "@" else address)
    channel.send(f"READY=1\\nSTATUS=I am {os.getpid()}".encode())
time.sleep(100000)
"""
ACTIVATED = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid()), os.environ["LISTEN_PID"]
assert os.environ["LISTEN_FDS"] == "1"
listener = socket.socket(fileno=3)
while True:
    client, _ = listener.accept()
    client.sendall(f"{os.getpid()} {os.environ['LISTEN_FDNAMES']}".encode())
    client.close()
"""
HELPER = "setsid sleep infinity & echo $! > {note}; exec sleep infinity"


@pytest.fixture(params=["delegated", "not delegated"])
def delegate(request: pytest.FixtureRequest) -> bool:
    """Give both kinds of service."""
    return bool(request.param == "delegated")


@pytest.fixture
def name(session: str) -> str:
    """Name the service of a test."""
    return f"wrapped-{session[-8:]}.service"


def install(units: Units, name: str, session: str, command: list[str], **settings: str) -> None:
    """Write a service whose main process is wrapped."""
    wrapped = [PROGRAM, "run", "-s", session, "--", *command]
    words = " ".join('"' + w.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
                     .replace("%", "%%").replace("$", "$$") + '"' for w in wrapped)  # fmt: skip
    lines = [f"{key}={value}" for key, value in settings.items()]
    units.write(name, "\n".join(["[Service]", f"ExecStart={words}", *lines, ""]))


def on_off(value: bool) -> str:
    """Write a boolean as systemd does."""
    return "yes" if value else "no"


def test_ready_comes_from_the_command(
    keeper: Scopekeeper, session: str, units: Units, name: str, delegate: bool
) -> None:
    settings = {"Type": "notify", "NotifyAccess": "main", "Delegate": on_off(delegate)}
    install(units, name, session, [sys.executable, "-c", NOTIFY], **settings)
    done = systemctl("start", name)
    assert done.returncode == 0, systemctl("status", name).stdout
    assert state(name) == "active"
    assert show(name, "StatusText") == f"I am {main_pid(name)}"
    assert "/m-python" in cgroup_of(main_pid(name))


def test_the_main_process_is_the_command(
    keeper: Scopekeeper, session: str, units: Units, name: str, delegate: bool
) -> None:
    install(units, name, session, [*FOREVER], Type="exec", Delegate=on_off(delegate))
    assert systemctl("start", name).returncode == 0
    eventually(lambda: text_of(f"/proc/{main_pid(name)}/comm") == "sleep\n")
    assert state(name) == "active"


def test_a_delegated_services_scope_is_inside_of_its_cgroup(
    keeper: Scopekeeper, session: str, units: Units, name: str
) -> None:
    install(units, name, session, [*FOREVER], Type="exec", Delegate="yes")
    assert systemctl("start", name).returncode == 0
    eventually(scope_directories)
    inside = show(name, "ControlGroup") + "/"
    eventually(lambda: cgroup_of(main_pid(name)).startswith(inside + "scopekeeper-"))


def test_status_shows_helpers_and_stop_ends_them(
    keeper: Scopekeeper, session: str, units: Units, name: str, tmp_path: Path, delegate: bool
) -> None:
    note = tmp_path / "helper"
    command = ["sh", "-c", HELPER.format(note=note)]
    install(units, name, session, command, Type="exec", Delegate=on_off(delegate))
    assert systemctl("start", name).returncode == 0
    helper = int(eventually(lambda: text_of(note).strip()))
    main = main_pid(name)
    eventually(lambda: os.getsid(helper) != os.getsid(main))  # setsid has run
    if delegate:
        shown = systemctl("status", name).stdout
        assert str(helper) in shown
        assert str(main) in shown
    assert systemctl("stop", name).returncode == 0
    eventually(lambda: not is_alive(helper) and not is_alive(main))
    eventually(lambda: not scope_directories())


def test_a_restart_ends_helpers_of_the_earlier_life(
    keeper: Scopekeeper, session: str, units: Units, name: str, tmp_path: Path, delegate: bool
) -> None:
    note = tmp_path / "helper"
    command = ["sh", "-c", HELPER.format(note=note)]
    install(units, name, session, command, Type="exec", Delegate=on_off(delegate))
    assert systemctl("start", name).returncode == 0
    old = int(eventually(lambda: text_of(note).strip()))
    note.unlink()
    assert systemctl("restart", name).returncode == 0
    new = int(eventually(lambda: text_of(note).strip()))
    keeper.call("reconcile")  # where systemd does not pass a restart on (before 254)
    eventually(lambda: not is_alive(old))
    assert is_alive(new)
    assert is_alive(main_pid(name))


def test_a_crash_ends_helpers_and_the_service_comes_back(
    keeper: Scopekeeper, session: str, units: Units, name: str, tmp_path: Path, delegate: bool
) -> None:
    note = tmp_path / "helper"
    command = ["sh", "-c", HELPER.format(note=note)]
    settings = {"Type": "exec", "Restart": "always", "RestartSec": "100ms"}
    install(units, name, session, command, Delegate=on_off(delegate), **settings)
    assert systemctl("start", name).returncode == 0
    old = int(eventually(lambda: text_of(note).strip()))
    main = main_pid(name)
    note.unlink()
    os.kill(main, signal.SIGKILL)
    new = int(eventually(lambda: text_of(note).strip()))
    keeper.call("reconcile")
    eventually(lambda: not is_alive(old))
    assert is_alive(new)
    eventually(lambda: main_pid(name) not in (0, main) and state(name) == "active")


def test_members_of_a_gateway_end_with_its_unit(
    keeper: Scopekeeper, session: str, units: Units, name: str, delegate: bool
) -> None:
    launch = shlex.join(keeper.argv("-s", session, "--", "sh", "-c", "setsid sleep 1e6 & wait"))
    script = f"{launch} & exec sleep infinity"
    units.run(name, f"--property=Delegate={on_off(delegate)}", command=("sh", "-c", script))
    scope = eventually(scope_directories)[0]
    pids = eventually(lambda: found if len(found := processes(scope)) == 2 else None)
    (leader,) = (int(record_of(leaf)["PID"]) for leaf in {directory_of(pid) for pid in pids})
    assert leader in pids
    assert systemctl("stop", name).returncode == 0
    eventually(lambda: not any(map(is_alive, pids)))
    eventually(lambda: not scope_directories())


def test_systemds_own_stop_waits_for_the_grace(keeper: Scopekeeper, session: str) -> None:
    for lane, options, wanted in (("one", [], "5s"), ("two", ["--grace", "2s"], "2s")):
        member = keeper.member("-s", session, "-l", lane, *options, "--", *FOREVER)
        unit = os.path.basename(os.path.dirname(directory_of(member.pid)))
        assert show(unit, "TimeoutStopUSec") == wanted


def test_a_stopping_gateway_drains_with_its_members_alive(
    keeper: Scopekeeper, session: str, units: Units, name: str, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    launch = shlex.join(keeper.argv("-s", session, "-n", "tool", "--", *FOREVER))
    drain = f"for n in 1 2 3 4 5; do sleep 0.1; kill -0 $tool && echo alive >> {seen}; done; exit 0"
    script = f"{launch} & tool=$!; trap '{drain}' TERM; while :; do sleep 0.05; done"
    units.run(name, "--property=KillMode=mixed", command=("sh", "-c", script))
    tool = next(iter(eventually(lambda: processes((scope_directories() or ["/x"])[0]))))
    eventually(lambda: text_of(f"/proc/{tool}/comm") == "sleep\n")
    assert systemctl("stop", name).returncode == 0
    assert text_of(seen) == "alive\n" * 5
    eventually(lambda: not is_alive(tool))


def test_a_socket_is_handed_over(
    keeper: Scopekeeper, session: str, units: Units, name: str, tmp_path: Path, delegate: bool
) -> None:
    address = f"{tmp_path}/socket"
    install(units, name, session, [sys.executable, "-c", ACTIVATED], Delegate=on_off(delegate))
    listening = name.replace(".service", ".socket")
    units.write(listening, f"[Socket]\nListenStream={address}\nFileDescriptorName=door\n")
    assert systemctl("start", listening).returncode == 0
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
            answer = client.recv(100).decode()
            assert answer == f"{main_pid(name)} door"
    assert "/m-python" in cgroup_of(main_pid(name))


@pytest.mark.parametrize("ignore", [True, False])
def test_the_services_ignored_signals_are_the_commands(
    keeper: Scopekeeper, session: str, units: Units, name: str, ignore: bool
) -> None:
    install(units, name, session, [*FOREVER], Type="exec", IgnoreSIGPIPE=on_off(ignore))
    assert systemctl("start", name).returncode == 0
    eventually(lambda: text_of(f"/proc/{main_pid(name)}/comm") == "sleep\n")
    ignored = signal_set(main_pid(name), "SigIgn")
    assert bool(ignored >> (signal.SIGPIPE - 1) & 1) is ignore


def test_the_exit_status_is_the_services(
    keeper: Scopekeeper, session: str, units: Units, name: str, delegate: bool
) -> None:
    install(units, name, session, ["sh", "-c", "exit 42"], Delegate=on_off(delegate))
    systemctl("start", name)
    eventually(lambda: show(name, "ExecMainStatus") == "42" and state(name) == "failed")


def test_a_service_may_be_called_as_what_lies_in_its_cgroup(
    keeper: Scopekeeper, units: Units, session: str
) -> None:
    unit = "memory.service"  # its cgroup is _memory.service
    launch = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    units.write(unit, f"[Service]\nExecStart=/bin/sh -c '{launch} & exec sleep 1000'\n")
    assert systemctl("start", unit).returncode == 0
    (scope,) = eventually(scope_directories)
    eventually(lambda: record_of(scope).get("OWNER_UNIT") == unit)
    (listed,) = json.loads(keeper.call("ls", "--json").stdout)["scopes"]
    assert (listed["owner"]["unit"], listed["state"]) == (unit, "running")


def test_what_a_stopped_service_left_starts_it_not_again_and_is_an_orphan(
    keeper: Scopekeeper, units: Units, session: str, name: str, tmp_path: Path
) -> None:
    launch = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    wait = f"touch {tmp_path}/ready; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    late = f"{wait}; exec {launch} 2> {tmp_path}/words"
    units.write(
        name,
        f"[Service]\nKillMode=process\nExecStart=/bin/sh -c '( {late} ) & exec sleep 1000'\n",
    )
    assert systemctl("start", name).returncode == 0
    eventually((tmp_path / "ready").exists)
    assert systemctl("stop", name).returncode == 0
    (tmp_path / "go").touch()
    scope = eventually(lambda: scope_directory(session))
    eventually(lambda: processes(scope))
    assert state(name) == "inactive"
    assert "BOUND" not in record_of(scope)
    (listed,) = keeper.scopes("-s", session)
    assert (listed["state"], listed["owner"]["unit"]) == ("orphan", name)
    assert keeper.call("reconcile", "--owner", name).returncode == 0
    eventually(lambda: not scope_directories())
