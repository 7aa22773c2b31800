"""The bus daemon is killed and started again: runs, launches, stops and the keeper go on."""

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.machine import PROGRAM, ROOT, eventually, is_alive, scope_directories

from .bus import BUS, allowed, busctl
from .faults import Faults, many, one_line
from .manager import main_pid, systemctl, uid_of
from .test_callers import bare
from .test_other_users import as_user

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(1800)]

WHERE = ("--", "cat", "/proc/self/cgroup")
UNIT, SOCKET = "dbus.service", "dbus.socket"


def end_the_bus() -> None:
    """Kill the daemon, and wait until another one answers: a call starts it."""
    before = main_pid(UNIT)
    systemctl("kill", "--signal=KILL", UNIT)
    eventually(lambda: main_pid(UNIT) != before)
    start_the_bus()
    eventually(lambda: main_pid(UNIT) not in (0, before))


@pytest.fixture(autouse=True)
def whole_bus() -> Iterator[None]:
    """Have every part of the machine find the bus again."""
    yield
    start_the_bus()
    if ROOT:
        systemctl("restart", "systemd-logind.service")
        renew("lab")


def renew(user: str) -> None:
    """Have a user's manager execute itself anew, which finds the system's bus again."""
    about = [f"XDG_RUNTIME_DIR=/run/user/{uid_of(user)}", "systemctl", "--user", "daemon-reexec"]
    subprocess.run(as_user(user, "env", *about), env=bare(user), check=True, cwd="/")


def start_the_bus() -> None:
    """Have systemd forget how often it has ended: it would not start it again."""
    systemctl("reset-failed", UNIT, SOCKET)
    systemctl("start", SOCKET)
    eventually(lambda: busctl("list").returncode == 0)


def test_all_goes_on_when_the_bus_daemon_is_started_again(faults: Faults) -> None:
    with allowed():
        world = faults.world
        world.keeper()
        living, doomed = world.owner(), world.owner()
        lives = [world.member(f"lives{number}", living, may="lives") for number in range(3)]
        for number in range(3):
            world.member(f"ends{number}", doomed, may="lives", own=True)
        stopped = world.member("stopped", living, may="lives", reasons=("stopped by request",))
        begun = faults.call("exec", "-d", "-s", f"{faults.session}:run", "--", "cat")
        assert begun.returncode == 0, begun.stderr
        run = begun.stdout.strip()
        keeper = main_pid("scopekeeper.service")
        ends = []

        def again() -> None:
            end_the_bus()
            ends.append(1)

        made = faults.launches(many(400, 60), again)
        while len(ends) < 3:
            again()
        systemctl("kill", "--signal=KILL", UNIT)
        for number in range(3):  # the keeper sees it without a bus
            world.members[f"ends{number}"].may = "ends"
        world.end_owner(doomed)
        stopped.may = "ends"
        one_line(faults.call("stop", "-s", faults.session, "-n", "stopped"))
        assert not is_alive(stopped.pid)
        one_line(faults.call("ls", "--json"))
        assert all(each.lives for each in lives)
        eventually(lambda: not any(world.members[f"ends{number}"].lives for number in range(3)))
        start_the_bus()
        eventually(lambda: busctl("call", *BUS, "List").returncode == 0)
        assert main_pid("scopekeeper.service") == keeper, "the keeper was started again"
        assert faults.call("send", run, "hello", "--enter").returncode == 0
        eventually(lambda: "hello" in faults.call("logs", run).stdout)
        assert faults.call("stop", "-s", f"{faults.session}:run").returncode == 0
        faults.prove(made, f"{len(ends) + 1} ends of the bus daemon")
        assert len(scope_directories()) == 1


@pytest.mark.root
def test_a_users_runs_and_launches_do_not_need_the_systems_bus(faults: Faults) -> None:
    uid = uid_of("lab")
    told = ["env", f"XDG_RUNTIME_DIR=/run/user/{uid}", PROGRAM]
    session = f"{faults.session}:lab"
    member = subprocess.Popen(
        as_user("lab", *told, "run", "-s", session, "-n", "lives", "--", "sleep", "infinity"),
        env=bare("lab"), cwd="/",
    )  # fmt: skip

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            as_user("lab", *told, *words), env=bare("lab"), cwd="/", stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    try:
        eventually(lambda: json.loads(call("ls", "-s", session, "--json").stdout)["scopes"])
        systemctl("kill", "--signal=KILL", UNIT)
        one_line(call("run", "-s", session, "-n", "joins", *WHERE), (0, 125))
        one_line(call("reconcile"))
        assert member.poll() is None
        start_the_bus()
        systemctl("restart", "systemd-logind.service")
        # her manager has lost the way to the system's for good, and moves no process of another
        # slice; it finds it again when it executes itself anew
        done = call("run", "-s", f"{session}:new", "-n", "new", *WHERE)
        one_line(done, (0, 125))
        print("after the bus came back:", done.returncode, done.stderr)
        renew("lab")
        done = call("run", "-s", f"{session}:new", "-n", "new", *WHERE)
        assert (done.returncode, ".scope/m-new." in done.stdout) == (0, True), done.stderr
        assert member.poll() is None
        one_line(call("stop", "-s", session))
        assert member.wait(60) == -signal.SIGTERM
    finally:
        member.kill()
        member.wait()
    assert faults.canaries.complaints() == []
