"""Limits: what was asked for stands in cgroupfs, and one member's excess is its own."""

import glob
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    processes,
    scope_directories,
    text_of,
)

from .guard import Keeper
from .manager import Units, manager_version, show

pytestmark = [pytest.mark.systemd, pytest.mark.controllers]

EAT = "data = []\nwhile True: data.append(bytearray(1 << 20).replace(bytes(1), bytes([7])))"
GULP = "exec tail /dev/zero"
"""It looks for the end of a line that has none."""
BOMB = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("begun", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.001)
"""


def limits_of(directory: str) -> dict[str, str]:
    """Return the limits of a cgroup as the kernel has them."""
    names = ("memory.max", "memory.high", "pids.max", "cpu.weight")
    return {name: text_of(f"{directory}/{name}").strip() for name in names}


def test_limits_of_the_scope_reach_the_kernel(keeper: Scopekeeper, session: str) -> None:
    process = keeper.member(
        "-s", session, "--memory-max=64M", "--memory-high", "48M", "--tasks-max=33",
        "--cpu-weight=77", "--", *FOREVER, stderr=subprocess.PIPE,
    )  # fmt: skip
    scope = os.path.dirname(directory_of(process.pid))
    wanted = {"memory.max": str(64 << 20), "memory.high": str(48 << 20), "pids.max": "33"}
    assert limits_of(scope) == {**wanted, "cpu.weight": "77"}
    assert show(os.path.basename(scope), "TasksMax") == "33"
    process.kill()
    assert process.communicate()[1] == b""


def test_limits_of_a_member_are_its_own(keeper: Scopekeeper, session: str) -> None:
    one = keeper.member(
        "-s", session, "--member-memory-max=32M", "--member-tasks-max=9", "--", *FOREVER
    )
    two = keeper.member("-s", session, "--", *FOREVER)
    assert limits_of(directory_of(one.pid))["memory.max"] == str(32 << 20)
    assert limits_of(directory_of(one.pid))["pids.max"] == "9"
    assert text_of(f"{directory_of(one.pid)}/memory.oom.group") == "1\n"
    assert limits_of(directory_of(two.pid))["memory.max"] == "max"
    assert limits_of(directory_of(two.pid))["pids.max"] == "max"


def test_rules_limit_a_server_by_its_name_and_swap(
    keeper: Scopekeeper, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path))
    (tmp_path / "config.toml").write_text(
        '[lanes.default]\nmember_memory_max = "64M"\nmemory_swap_max = "1G"\n'
        '[servers.browser]\nmember_memory_max = "1.5G"\nmember_memory_swap_max = 0\n'
    )
    other = keeper.member("-s", session, "-n", "other", "--", *FOREVER, stderr=subprocess.PIPE)
    browser = keeper.member("-s", session, "-n", "browser", "--", *FOREVER, stderr=subprocess.PIPE)
    given = keeper.member(
        "-s", session, "-n", "browser", "--member-memory-max=32M", "--member-memory-swap-max=8M",
        "--", *FOREVER,
    )  # fmt: skip
    scope = os.path.dirname(directory_of(other.pid))
    assert show(os.path.basename(scope), "MemorySwapMax") == str(1 << 30)
    swap = [text_of(f"{each}/memory.swap.max").strip() for each in
            (scope, *(directory_of(each.pid) for each in (other, browser, given)))]  # fmt: skip
    counted = os.path.exists(f"{scope}/memory.swap.max")
    assert swap == ([str(1 << 30), "max", "0", str(8 << 20)] if counted else [""] * 4)
    limits = [limits_of(directory_of(each.pid))["memory.max"] for each in (other, browser, given)]
    assert limits == [str(64 << 20), str(3 << 29), str(32 << 20)]
    for member in (other, browser):
        member.kill()
        warned = member.communicate()[1].decode()
        assert warned == "" if counted else "the kernel does not count swap here" in warned


@pytest.mark.parametrize("where", ["scope", "member"])
def test_out_of_memory_ends_one_member_and_spares_its_siblings(
    keeper: Scopekeeper, session: str, where: str
) -> None:
    scope_limit = ["--memory-max=96M"] if where == "scope" else []
    member_limit = ["--member-memory-max=64M"] if where == "member" else []
    sibling = keeper.member("-s", session, "-n", "sibling", *scope_limit, "--", *FOREVER)
    eater = keeper.start(
        "-s", session, "-n", "eater", *scope_limit, *member_limit, "--", sys.executable, "-c", EAT
    )
    assert eater.wait(300) == -signal.SIGKILL
    scope = os.path.dirname(directory_of(sibling.pid))
    assert "oom_kill 0" not in text_of(f"{scope}/memory.events")
    again = keeper.run("-s", session, "-n", "other", *scope_limit, "--", "sh", "-c", "exit 6")
    assert again.returncode == 6
    assert is_alive(sibling.pid)
    assert show(os.path.basename(scope), "ActiveState") == "active"


def test_a_member_that_is_out_of_memory_goes_whole(keeper: Scopekeeper, session: str) -> None:
    script = f"sleep 100000 & exec {sys.executable} -c '{EAT}'"
    eater = keeper.start("-s", session, "--member-memory-max=64M", "--", "sh", "-c", script)
    assert eater.wait(300) == -signal.SIGKILL
    eventually(lambda: not scope_directories())


def test_a_member_that_was_out_of_memory_is_told_so(
    keeper: Scopekeeper, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path))
    keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    eater = keeper.start(
        "-s", session, "-n", "eater", "--member-memory-max=64M", "--", sys.executable, "-c", EAT
    )
    assert eater.wait(300) == -signal.SIGKILL
    for _ in range(2):
        assert keeper.call("reconcile").returncode == 0
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection:
        query = "SELECT name, reason, oom_kills, memory_peak FROM ends"
        ((name, reason, kills, peak),) = connection.execute(query).fetchall()
    assert (name, reason) == ("eater", "oom-killed")
    assert kills >= 1
    assert peak is None or 32 << 20 < peak <= 64 << 20


def reasons(keeper: Scopekeeper, session: str, command: str) -> dict[str, str]:
    """Return the reason of each end in a session, found by the first command that looks."""
    words = [command] if command in ("reconcile", "ls") else [command, "-s", session]
    done = keeper.call(*words, *(["--all"] if command == "ls" else []))
    assert done.returncode == 0, done.stderr
    ends = json.loads(keeper.call("history", "-s", session, "--json").stdout)["ends"]
    return {end["member"]: end["reason"] for end in ends}


@pytest.mark.parametrize("command", ["history", "why", "ls", "reconcile"])
def test_whoever_looks_first_reads_the_kills_in_a_cgroup_that_is_still_there(
    keeper: Scopekeeper, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path))
    sibling = keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    eater = keeper.start(
        "-s", session, "-n", "eater", "--member-memory-max=32M", "--", "sh", "-c", GULP
    )
    assert eater.wait(120) == -signal.SIGKILL
    leaf = eventually(lambda: glob.glob(f"{os.path.dirname(directory_of(sibling.pid))}/m-eater.*"))
    eventually(lambda: not processes(leaf[0]))
    assert reasons(keeper, session, command) == {"eater": "oom-killed"}


@pytest.mark.parametrize("command", ["history", "reconcile"])
def test_the_result_of_a_scope_is_read_while_systemd_has_it(
    keeper: Scopekeeper, units: Units, session: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, command: str,
) -> None:  # fmt: skip
    if manager_version() < 253:
        pytest.skip("OOMPolicy= of scopes is new in systemd 253")
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path))
    units.write("scopekeeper-.scope.d/oom.conf", "[Scope]\nOOMPolicy=kill\n"
                "[Unit]\nCollectMode=inactive\n")  # fmt: skip
    limit = "--memory-max=64M"
    sibling = keeper.member("-s", session, "-n", "sibling", limit, "--", *FOREVER)
    scope = os.path.basename(os.path.dirname(directory_of(sibling.pid)))
    units.adopt(scope)
    eater = keeper.start("-s", session, "-n", "eater", limit, "--", "sh", "-c", GULP)
    assert eater.wait(120) == -signal.SIGKILL
    assert sibling.wait(60) == -signal.SIGKILL
    eventually(lambda: show(scope, "Result") == "oom-kill")
    eventually(lambda: not scope_directories())
    both = {"eater": "oom-killed", "sibling": "oom-killed"}
    assert reasons(keeper, session, command) == both


def test_the_keeper_tells_who_was_out_of_memory_while_the_siblings_go_on(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    sibling = keeper.member(
        "-s", session, "-n", "sibling", "--", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    words = ("-s", session, "--member-memory-max=32M", "-n")
    for name, script in (("leader", GULP), ("child", f"({GULP}) & wait; exit 0")):
        eater = keeper.start(*words, name, "--", "sh", "-c", script)
        assert eater.wait(120) == -signal.SIGKILL, "a member goes whole"
    ends = eventually(lambda: guard.ends(session)[1:] and guard.ends(session))
    assert [(end["member"], end["reason"]) for end in ends] == [
        ("leader", "oom-killed"),
        ("child", "oom-killed"),
    ]
    assert all(24 << 20 < end["memory_peak"] <= 32 << 20 for end in ends), "not of its first look"
    told = keeper.call("why", session).stdout.splitlines()
    assert [line.count("because it ran out of memory") for line in told] == [0, 1, 1], (
        "what runs is first"
    )
    assert "sibling" in told[2]
    sibling.stdin.write(b"go on\n")
    sibling.stdin.flush()
    assert sibling.stdout.readline() == b"go on\n"
    scope = os.path.dirname(directory_of(sibling.pid))
    assert processes(scope) == {sibling.pid}
    assert show(os.path.basename(scope), "ActiveState") == "active"


def test_a_fork_bomb_stays_within_its_tasks_and_is_ended(keeper: Scopekeeper, session: str) -> None:
    bomb = keeper.start(
        "-s", session, "-n", "bomb", "--tasks-max=60", "--", sys.executable, "-c", BOMB,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert bomb.stdout.readline() == b"begun\n"
    scope = os.path.dirname(directory_of(bomb.pid))
    eventually(lambda: "max 0" not in text_of(f"{scope}/pids.events"))
    assert len(processes(scope)) <= 60
    assert int(text_of(f"{scope}/pids.current")) <= 60
    done = keeper.call("stop", "-s", session, "--grace", "500ms")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bomb.wait() == -signal.SIGKILL
    eventually(lambda: not os.path.isdir(scope))


def test_a_member_at_its_limit_of_tasks_leaves_room_for_others(
    keeper: Scopekeeper, session: str
) -> None:
    bomb = keeper.start(
        "-s", session, "-n", "bomb", "--member-tasks-max=20", "--", sys.executable, "-c", BOMB,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert bomb.stdout.readline() == b"begun\n"
    leaf = directory_of(bomb.pid)
    eventually(lambda: "max 0" not in text_of(f"{leaf}/pids.events"))
    other = keeper.run("-s", session, "-n", "other", "--", "sh", "-c", "true | true; exit 4")
    assert other.returncode == 4
    done = keeper.call("stop", "-s", session, "-n", "bomb", "--grace", "500ms")
    assert done.returncode == 0, done.stdout + done.stderr
