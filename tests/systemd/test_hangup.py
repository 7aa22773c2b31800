"""Terminals that go away, and commands that will not: nobody else is harmed, and stop proves."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import Scopekeeper, eventually, is_alive, is_populated, scope_directory, text_of
from tests.viewer import Viewer

from .installed import Installed
from .test_exec import begin, pid_of, wait

pytestmark = pytest.mark.systemd

Call = Callable[..., Viewer]
DETACH = "\x1c"


def clients_of(installed: Installed) -> int:
    """Count the sockets that the keeper has open."""
    folder, links = f"/proc/{installed.pid}/fd", []
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # it has closed it meanwhile
            links.append(os.readlink(f"{folder}/{fd}"))
    return sum(link.startswith("socket:") for link in links)


def test_who_is_killed_or_closes_the_window_harms_nobody(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    script = "trap 'echo HUNG UP' HUP; echo ready; while read line; do echo got $line; done"
    run = begin(keeper, session, "--", "bash", "-c", script)
    stays = viewer("attach", run)
    stays.shows("ready")
    before = clients_of(installed)
    killed = viewer("attach", run, cols=60, rows=20)
    killed.shows("ready")
    killed.type("half of ")
    stays.expect("half of ")
    gone = viewer("attach", run)
    gone.shows("ready")
    gone.type("a line ")
    stays.expect("a line ")
    killed.signal("SIGKILL")
    gone.hang_up()
    eventually(lambda: clients_of(installed) == before)
    stays.type("and the rest\r")
    stays.expect("got half of a line and the rest")
    assert b"HUNG UP" not in stays.raw
    stays.type("\x04")
    assert stays.status() == 0


def try_commands_that_ignore_signals_are_ended_all_the_same(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    traps = begin(keeper, f"{session}:traps", "--", "bash", "-c",
                  "trap 'echo one HUP' HUP; trap 'echo bye; exit 7' TERM; echo ready; "
                  "while :; do read -t 0.05 x; done")  # fmt: skip
    ignores = begin(keeper, f"{session}:ignores", "--grace", "100ms", "--", "bash", "-c",
                    "trap '' HUP TERM; echo ready; while :; do read -t 0.05 x; done")  # fmt: skip
    for run in (traps, ignores):
        eventually(lambda run=run: "ready" in keeper.call("logs", run).stdout)
    os.kill(pid_of(f"{session}:traps"), signal.SIGHUP)
    user = viewer("attach", traps)
    user.shows("one HUP")
    pid, scope = pid_of(f"{session}:ignores"), scope_directory(f"{session}:ignores")
    for name in ("traps", "ignores"):
        assert keeper.call("stop", "-s", f"{session}:{name}").returncode == 0
    assert not is_alive(pid)
    assert not is_populated(scope)
    user.expect("bye")
    assert user.status() == 7
    assert wait(keeper, traps)["status"] == 7
    ended = wait(keeper, ignores)
    assert (ended["reason"], ended["status"]) == ("stopped by request", 137)


HELPER = """
import os, sys, time
go, terminal = sys.argv[1], os.ttyname(1)
left, leaves = os.pipe()
if os.fork():
    os.read(left, 1)
    os.write(1, b"leader done\\r\\n")
    os._exit(5)
os.setsid()
os.write(leaves, b"x")
ours = os.open(terminal, os.O_WRONLY | os.O_NOCTTY)
while not os.path.exists(go):
    time.sleep(0.01)
for name in (ours, terminal):
    try:
        fd = name if isinstance(name, int) else os.open(name, os.O_WRONLY | os.O_NOCTTY)
        os.write(fd, b"late words\\r\\n")
    except OSError as error:
        with open(go, "a") as file:
            file.write(str(error))
with open(go, "a") as file:
    file.write("written")
time.sleep(1000)
"""


def test_a_helper_that_keeps_the_terminal_does_not_keep_who_waits(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call, tmp_path: Path
) -> None:
    assert installed
    go = tmp_path / "go"
    user = viewer("exec", "-s", session, "--", sys.executable, "-c", HELPER, str(go))
    user.expect("leader done")
    scope = eventually(lambda: scope_directory(session))
    run = scope.rpartition("-")[2].removesuffix(".scope")
    assert user.status() == 5
    ended = wait(keeper, run)
    assert (ended["reason"], ended["status"]) == ("exited", 5)
    assert is_populated(scope)
    go.touch()
    eventually(lambda: "written" in text_of(go))
    eventually(lambda: "late words" in keeper.call("logs", run).stdout)
    later = viewer("attach", run)
    later.expect("late words")
    assert later.status() == 5
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_populated(scope)


def test_attached_within_an_attached_run_each_is_left_by_its_own_keys(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    inner = begin(keeper, f"{session}:inner", "--", "sh", "-c", "stty -echo; echo inside; cat")
    outer = viewer("exec", "-s", session, "--", "bash", "--norc", "--noprofile", "-i")
    outer.expect(r"\$ ")
    outer.type(f"scopekeeper attach --detach-keys ctrl-t {inner}\r")
    outer.expect("inside")
    outer.type("typed\r")
    outer.shows("typed")
    outer.type("\x14")
    outer.expect(rf"\[detached from {inner}\]")
    outer.type(f"scopekeeper attach --detach-keys ctrl-t {inner}\r")
    outer.expect("inside")
    outer.type(DETACH)
    run = outer.expect(r"\[detached from ([0-9a-f]{8})\]")[1].decode()
    assert run != inner
    assert outer.status() == 0
    again = viewer("attach", run)
    again.shows("typed")
    again.type("\x04")
    again.expect(r"\[.* ended: exited, status 0\]")
    again.type("\rexit 3\r")
    assert again.status() == 3


def test_a_run_is_not_shown_to_itself(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    user = viewer("exec", "-s", session, "--", "bash", "--norc", "--noprofile", "-i")
    user.expect(r"\$ ")
    scope = eventually(lambda: scope_directory(session))
    run = scope.rpartition("-")[2].removesuffix(".scope")
    user.type(f"scopekeeper attach {run}; echo status $?\r")
    user.expect("inside of")
    user.expect(r"status 1\r")
    user.type("exit\r")
    assert user.status() == 0
    assert keeper
