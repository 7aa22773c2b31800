"""A fork bomb within its limit of tasks: others go on, and the bomb ends as a whole."""

import os
import signal
import subprocess
import sys

import pytest

from tests.machine import (
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    processes,
    scope_directories,
    text_of,
)

from .canary import Canaries
from .guard import Keeper
from .manager import show

pytestmark = [pytest.mark.systemd, pytest.mark.controllers, pytest.mark.timeout(600)]

BOMB = """
import os, signal, time
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
print("begun", flush=True)
while True:
    try:
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
        time.sleep(0.05)
    except OSError:
        time.sleep(0.2)
"""
"""Each child leaves its parent, its group and its session, and goes on; SIGCHLD is ignored, so that
nothing waits to be reaped."""
MOST = 40


@pytest.mark.parametrize("how", ["--tasks-max", "--member-tasks-max", "a rule"])
def test_a_fork_bomb_takes_nothing_from_others_and_is_ended(
    guard: Keeper, keeper: Scopekeeper, session: str, how: str
) -> None:
    guard.policy(f"[lanes.main]\ntasks_max = {MOST}\n" if how == "a rule" else "")
    guard.start()
    before = guard.pid
    canaries = Canaries(keeper, session)
    limit = [] if how == "a rule" else [f"{how}={MOST}"]
    bomb = keeper.start("-s", session, "-n", "bomb", *limit, "--", sys.executable, "-c", BOMB,
                        stdout=subprocess.PIPE)  # fmt: skip
    assert bomb.stdout is not None
    assert bomb.stdout.readline() == b"begun\n"
    leaf = directory_of(bomb.pid)
    scope = os.path.dirname(leaf)
    full = leaf if how == "--member-tasks-max" else scope
    assert text_of(f"{full}/pids.max") == f"{MOST}\n"
    eventually(lambda: "max 0" not in text_of(f"{full}/pids.events"))
    assert len(processes(scope)) <= MOST
    for words in (["ls", "--members"], ["reconcile"]):
        done = keeper.call(*words)
        assert done.returncode == 0, (words, done.stderr)
        assert "Traceback" not in done.stderr
    beside = keeper.run("-s", canaries.session, "-n", "beside", "--", "echo", "ran")
    assert (beside.returncode, beside.stdout) == (0, "ran\n"), beside.stderr
    joins = keeper.run("-s", session, "-n", "joins", *limit, "--", "sh", "-c", "exit 4")
    if how == "--member-tasks-max":  # it leaves room for others of its own session
        assert joins.returncode == 4, joins.stderr
    assert "Traceback" not in joins.stderr
    canaries.check()
    assert is_alive(bomb.pid)
    done = keeper.call("stop", "-s", session, "--grace", "300ms")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bomb.wait() == -signal.SIGKILL
    eventually(lambda: scope not in scope_directories())
    eventually(lambda: show(os.path.basename(scope), "ActiveState") in ("inactive", "failed"))
    assert guard.pid == before
    (end,) = [each for each in guard.ends(session) if each["member"] == "bomb"]
    assert end["reason"] == "stopped by request"
    canaries.check()


def test_a_fork_bomb_whose_owner_ends_is_ended_by_reconcile(
    keeper: Scopekeeper, session: str
) -> None:
    canaries = Canaries(keeper, session)
    owner = keeper.popen(["sleep", "infinity"])
    bomb = keeper.start("-s", session, "--owner", str(owner.pid), f"--tasks-max={MOST}",
                        "--grace=300ms", "--", sys.executable, "-c", BOMB,
                        stdout=subprocess.PIPE)  # fmt: skip
    assert bomb.stdout is not None
    assert bomb.stdout.readline() == b"begun\n"
    scope = os.path.dirname(directory_of(bomb.pid))
    eventually(lambda: "max 0" not in text_of(f"{scope}/pids.events"))
    owner.kill()
    owner.wait()
    done = keeper.call("reconcile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bomb.wait() == -signal.SIGKILL
    eventually(lambda: not os.path.isdir(scope))
    canaries.check()
