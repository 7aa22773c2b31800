"""What an earlier life of a service launches neither starts the next one nor belongs to it."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    PROGRAM,
    ROOT,
    Scopekeeper,
    cgroup_of,
    children_of,
    directory_of,
    eventually,
    is_alive,
    record_of,
    rounds,
    state_of,
    text_of,
)

from .manager import Units, main_pid, show, state, systemctl

pytestmark = pytest.mark.systemd

# starts what it is asked to start
OBEDIENT = """
import subprocess, sys
with open(sys.argv[1]) as orders:
    for line in orders:
        subprocess.Popen(line.split())
"""
# its first life is killed while it launches; each later one stays
CRASHING = """
import os, signal, subprocess, sys, time
lives, pause, *launch = sys.argv[1:]
with open(lives, "a") as written:
    written.write("x")
if os.path.getsize(lives) == 1:
    for number in range(8):
        subprocess.Popen([word.replace("NUMBER", str(number % 4)) for word in launch])
    time.sleep(float(pause))
    os.kill(os.getpid(), signal.SIGKILL)
signal.pause()
"""
# its first life leaves a process that launches when it is asked to
LEAVING = """
if [ ! -e {lives} ]; then
    : > {lives}
    (read -r line < {go}; {launch}) &
fi
exec sleep infinity
"""


def started(units: Units, name: str, *command: object) -> str:
    """Start a service that leaves its processes alone when it ends, and return its name."""
    unit = f"scopekeeper-test-{name}.service"
    text = f"""\
[Service]
KillMode=process
Environment=PATH={os.environ["PATH"]}
ExecStart={" ".join(map(str, command))}
"""
    units.write(unit, text)
    assert systemctl("start", unit).returncode == 0
    return unit


def manager_pid() -> int:
    """Return the pid of the user's manager."""
    top = cgroup_of(os.getpid()).partition(f"/user@{os.geteuid()}.service/")[0]
    listed = text_of(f"{MOUNT}{top}/user@{os.geteuid()}.service/init.scope/cgroup.procs")
    (pid,) = [int(each) for each in listed.split() if text_of(f"/proc/{each}/comm") == "systemd\n"]
    return pid


@pytest.mark.skipif(ROOT, reason="process 1 cannot be suspended")
def test_a_launch_does_not_start_a_service_that_was_killed_meanwhile(
    keeper: Scopekeeper, units: Units, session: str, tmp_path: Path
) -> None:
    orders, script = tmp_path / "orders", tmp_path / "obedient.py"
    os.mkfifo(orders)
    script.write_text(OBEDIENT)
    unit = started(units, "obedient", sys.executable, script, orders)
    gateway, manager = main_pid(unit), manager_pid()
    with orders.open("w") as order:
        os.kill(manager, signal.SIGSTOP)
        try:
            print(PROGRAM, "run", "-s", session, "--", *FOREVER, file=order, flush=True)
            (launcher,) = eventually(lambda: children_of(gateway))
            eventually(lambda: waits_for_an_answer(launcher))
            os.kill(gateway, signal.SIGKILL)
        finally:
            os.kill(manager, signal.SIGCONT)
    eventually(lambda: not is_alive(launcher))
    assert (state(unit), main_pid(unit)) == ("failed", 0)
    assert keeper.scopes("-s", session) == []


def waits_for_an_answer(pid: int) -> bool:
    """Return whether a launcher sleeps with a socket open: it has asked systemd."""
    sockets = [os.readlink(each.path) for each in os.scandir(f"/proc/{pid}/fd")]
    return state_of(pid) == "S" and any(each.startswith("socket:") for each in sockets[3:])


def test_a_service_that_is_killed_while_it_launches_stays_dead(
    keeper: Scopekeeper, units: Units, session: str, tmp_path: Path
) -> None:
    script = tmp_path / "crashing.py"
    script.write_text(CRASHING)
    launch = (PROGRAM, "run", "-s", f"{session}:NUMBER", "--", *FOREVER)
    for number, _ in enumerate(rounds(40, least=6)):
        lives = tmp_path / f"lives-{number}"
        lives.touch()
        pause = 0.01 * (number % 10)
        command = (sys.executable, script, lives, pause, *launch)
        unit = started(units, f"crashing-{number}", *command)
        eventually(
            lambda unit=unit, lives=lives: state(unit) == "failed" or len(lives.read_text()) > 1
        )
        eventually(lambda: keeper.call("reconcile").returncode == 0 and not keeper.scopes())
        assert (state(unit), lives.read_text()) == ("failed", "x")


@pytest.mark.parametrize("launch", ["exec {run}", "({run}; :); :"], ids=["lost", "with-a-client"])
def test_what_an_earlier_life_launches_is_not_the_next_ones(
    launch: str, keeper: Scopekeeper, units: Units, session: str, tmp_path: Path
) -> None:
    go, script, lives = (tmp_path / each for each in ("go", "leaving.sh", "lives"))
    os.mkfifo(go)
    run = f"{PROGRAM} run -s {session} -- sleep infinity"
    script.write_text(LEAVING.format(lives=lives, go=go, launch=launch.format(run=run)))
    unit = started(units, "leaving", "/bin/sh", script)
    first, main = show(unit, "InvocationID"), main_pid(unit)
    eventually(lambda: children_of(main) and text_of(f"/proc/{main}/comm") == "sleep\n")
    os.kill(main, signal.SIGKILL)
    eventually(lambda: state(unit) == "failed")
    assert systemctl("start", unit).returncode == 0
    assert show(unit, "InvocationID") != first
    go.write_text("now\n")
    (scope,) = eventually(lambda: keeper.scopes("-s", session))
    (member,) = scope["members"]
    record = record_of(directory_of(member["pid"]))
    assert record.get("OWNER_EPOCH") != show(unit, "InvocationID")
    if "OWNER_PID" in record:
        client = int(record["OWNER_PID"])
        assert cgroup_of(client).endswith(unit)
        os.kill(client, signal.SIGKILL)
        eventually(lambda: not is_alive(client))
    assert keeper.call("reconcile").returncode == 0
    eventually(lambda: not is_alive(member["pid"]))
    assert state(unit) == "active"
