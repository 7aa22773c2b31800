"""Cgroups that others make, or that members make in their own leaf, take nothing away from anybody.

For root the stranger is another user; for a user it is a service of her own.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopekeeper.cli.select_options import NOTHING
from tests import folders
from tests.machine import (
    FOREVER,
    MOUNT,
    PATIENCE,
    ROOT,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    scope_directory,
)

from .guard import UNIT, Keeper
from .manager import Units, show

pytestmark = pytest.mark.systemd

HELP = """
import os, sys, threading, time
FOLDER = os.O_RDONLY | os.O_DIRECTORY
own = sys.argv[1] + [l[3:-1] for l in open("/proc/self/cgroup") if l.startswith("0::")][0]
def nest(names):
    fd = os.open(own, FOLDER)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, FOLDER, dir_fd=fd)
        os.close(fd)
        fd = inner
    return fd
def write(path, text, **where):
    fd = os.open(path, os.O_WRONLY, **where)
    os.write(fd, text)
    os.close(fd)
def stay():
    print("ready", flush=True)
    while True:
        time.sleep(1000)
"""
STRANGER = (
    HELP
    + """
nest(["deep"] * 1000)
nest([letter * 250 for letter in "abcdefghijklmnopqrst"])
nest(["closed", "inner"])
os.chmod(own + "/closed", 0)
os.mkdir(own + "/ready")
stay()
"""
)
TAKES_AWAY = {
    "a threaded cgroup in the leaf": """
os.mkdir(own + "/t")
write(own + "/t/cgroup.type", b"threaded")
write(own + "/t/cgroup.threads", b"0")
threading.Thread(target=time.sleep, args=(1000,)).start()
""",
    "the leaf": "os.chmod(own, 0)",
    "the scope": "os.chmod(os.path.dirname(own), 0)",
    "the leaf's files": """
for name in ("cgroup.procs", "cgroup.events", "cgroup.kill", "cgroup.threads", "cgroup.type"):
    os.chmod(own + "/" + name, 0)
""",
    "a folder below": """
fd = nest(["below"])
write("cgroup.procs", b"0", dir_fd=fd)
os.fchmod(fd, 0)
""",
    "a deep place": 'write("cgroup.procs", b"0", dir_fd=nest(["deep"] * 500))',
    "a long name": 'write("cgroup.procs", b"0", dir_fd=nest(["n" * 250] * 20))',
    "the leaf, which is threaded": """
import subprocess
os.mkdir(own + "/t")
write(own + "/t/cgroup.type", b"threaded")
write(own + "/t/cgroup.procs", b"0")
os.chmod(own + "/t", 0)
""",
}


@pytest.fixture
def strangers(units: Units) -> Iterator[str]:
    """Have somebody make cgroups that are too deep, too long and closed; gives his folder."""
    name = f"stranger-{os.getpid()}.service"
    options = ["-pDelegate=yes", *(["-pUser=other", "-pWorkingDirectory=/"] if ROOT else [])]
    units.run(name, *options, command=(sys.executable, "-c", STRANGER, MOUNT))
    folder = MOUNT + show(name, "ControlGroup")
    eventually(lambda: os.path.isdir(f"{folder}/ready"))
    yield folder
    os.chmod(f"{folder}/closed", 0o755)
    units.close()
    eventually(lambda: folders.remove(folder))


def said_unread(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command said of places that it could not read."""
    return "".join(line for line in done.stderr.splitlines() if "could not be read" in line)


def test_every_command_goes_on_beside_strangers(
    guard: Keeper, keeper: Scopekeeper, session: str, strangers: str
) -> None:
    guard.start()
    process = keeper.member("-s", session, "-n", "it", "--", *FOREVER)
    listed = keeper.call("ls")
    assert listed.returncode == 0, listed.stderr
    assert session in listed.stdout
    assert keeper.call("why", session).returncode == 0
    assert keeper.call("reconcile").returncode == 0
    assert is_alive(process.pid)
    again = keeper.member("-s", session, "-n", "it", "--replace", "--", *FOREVER)
    assert process.wait(PATIENCE) == -signal.SIGTERM
    assert is_alive(again.pid)
    begun = keeper.call("exec", "-d", "-s", session, "--", *FOREVER)
    assert begun.returncode == 0, begun.stderr
    stopped = keeper.call("stop", "-s", session)
    assert stopped.returncode == 0, stopped.stderr
    assert not is_alive(again.pid)
    assert scope_directory(session) == ""
    nothing = keeper.call("stop", "-s", session)
    assert nothing.stdout == f"{NOTHING}\n"
    answer = json.loads(keeper.call("ls", "--json").stdout)
    path = strangers[len(MOUNT) :]
    if ROOT:  # nothing of root's can be in what is another user's
        assert not said_unread(listed)
        assert not said_unread(nothing)
        assert answer["unread"] == []
        answer = json.loads(keeper.call("ls", "--json", "--all-users").stdout)
        assert {"cgroup": path, "problem": "cgroups nested too deep"} in answer["unread"]
    else:
        assert "2 places could not be read" in said_unread(listed)
        assert "2 places could not be read" in said_unread(nothing)
        found = {each["cgroup"]: each["problem"] for each in answer["unread"]}
        assert found == {path: "cgroups nested too deep", f"{path}/closed": "Permission denied"}


def test_a_keeper_starts_and_goes_on_beside_strangers(
    guard: Keeper, keeper: Scopekeeper, session: str, strangers: str
) -> None:
    guard.start()
    for lane in ("one", "two"):  # the second after a restart
        owner = keeper.popen(list(FOREVER))
        member = keeper.member("-s", session, "-l", lane, f"--owner={owner.pid}", "--", *FOREVER)
        owner.kill()
        owner.wait()
        assert member.wait(PATIENCE) == -signal.SIGTERM
        eventually(lambda lane=lane: any(each["lane"] == lane for each in guard.ends(session)))
        before = guard.pid
        os.kill(before, signal.SIGKILL)
        eventually(lambda before=before: guard.pid not in (0, before))
        eventually(lambda: show(UNIT, "ActiveState") == "active")
    assert show(UNIT, "NRestarts") == "2"


@pytest.mark.parametrize("what", TAKES_AWAY)
def test_a_member_that_takes_access_away_is_stopped_all_the_same(
    keeper: Scopekeeper, session: str, what: str
) -> None:
    hostile = f"{HELP}\n{TAKES_AWAY[what]}\nstay()"
    options = ("-s", session, "--grace=300ms")
    sibling = keeper.member(*options, "-n", "sibling", "--", *FOREVER)
    process = keeper.start(*options, "-n", "hostile", "--", sys.executable, "-c", hostile, MOUNT,
                           stdout=subprocess.PIPE)  # fmt: skip
    neighbour = keeper.member("-s", session + "x", "--", *FOREVER)
    assert process.stdout.readline() == b"ready\n"
    scope = os.path.dirname(directory_of(sibling.pid))
    listed = keeper.call("ls", "--members")
    assert listed.returncode == 0, listed.stderr
    assert keeper.call("reconcile").returncode == 0
    assert is_alive(process.pid)
    done = keeper.call("stop", "-s", session, "-n", "hostile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hostile: gone after" in done.stdout
    assert not is_alive(process.pid)
    assert is_alive(sibling.pid)
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not is_alive(sibling.pid)
    eventually(lambda: not os.path.isdir(scope))
    assert is_alive(neighbour.pid)
    ended = json.loads(keeper.call("history", "-s", session, "--json").stdout)["ends"]
    assert {each["member"]: each["reason"] for each in ended}["hostile"] == "stopped by request"


def test_a_launch_beside_a_member_that_closed_its_leaf_joins(
    keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member("-s", session, "-n", "closed", "--", *FOREVER)
    os.chmod(directory_of(member.pid), 0)
    done = keeper.run("-s", session, "-n", "second", "--", "echo", "joined", timeout=45)
    assert (done.returncode, done.stdout) == (0, "joined\n"), done.stderr
    assert keeper.call("stop", "-s", session).returncode == 0
    assert member.wait() == -signal.SIGTERM


def test_a_limit_of_cgroups_refuses_a_launch_at_once(keeper: Scopekeeper, session: str) -> None:
    """mkdir answers EAGAIN there, as a lock that somebody holds does."""
    member = keeper.member("-s", session, "--", *FOREVER)
    scope = os.path.dirname(directory_of(member.pid))
    Path(scope, "cgroup.max.descendants").write_text("0")
    done = keeper.run("-s", session, "-n", "second", "--", "echo", "ran", timeout=45)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (125, "", 1)
    assert "temporarily unavailable" in done.stderr
