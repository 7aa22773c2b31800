"""Whatever a command does to get away, it and its children stay in its leaf, and can be ended."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
    state_of,
    text_of,
)

from .manager import SLICE, show

pytestmark = pytest.mark.systemd

DOUBLE_FORK = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.chdir("/")
        os.closerange(0, 3)
        with open(sys.argv[1] + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        time.sleep(100000)
    os._exit(0)
os.wait()
time.sleep(100000)
"""


def pid_in(path: Path) -> int:
    """Wait for a process to leave its pid in a file."""
    return int(eventually(lambda: text_of(path).strip()))


def ended(*pids: int) -> bool:
    """Tell whether none of these processes lives."""
    return not any(is_alive(pid) for pid in pids)


def test_the_first_instruction_runs_inside_the_leaf(keeper: Scopekeeper, session: str) -> None:
    for _ in range(2):  # the one that makes the scope, and one that joins it
        process = keeper.start(
            "-s",
            session,
            "--",
            "sh",
            "-c",
            "read first < /proc/self/cgroup; cat /proc/self/cgroup; echo; exec sleep infinity",
            stdout=subprocess.PIPE,
        )
        lines = [line.decode() for line in iter(process.stdout.readline, b"\n")]
        (path,) = [line[3:].strip() for line in lines if line.startswith("0::")]
        assert path == cgroup_of(process.pid)
        assert os.path.dirname(path).endswith(".scope")
        assert os.path.basename(path).startswith("m-sh.")
        assert os.path.dirname(os.path.dirname(directory_of(process.pid))) == SLICE


def test_nothing_is_in_the_scope_itself(keeper: Scopekeeper, session: str) -> None:
    one = keeper.member("-s", session, "-n", "one", "--", *FOREVER)
    two = keeper.member("-s", session, "-n", "two", "--", *FOREVER)
    scope = os.path.dirname(directory_of(one.pid))
    assert os.path.dirname(directory_of(two.pid)) == scope
    assert text_of(f"{scope}/cgroup.procs") == ""
    assert processes(scope) == {one.pid, two.pid}
    assert [leaf.rpartition(".")[0] for leaf in leaves(scope)] == ["m-one", "m-two"]


def test_the_unit_delegates_and_goes_when_it_is_empty(keeper: Scopekeeper, session: str) -> None:
    process = keeper.member("-s", session, "--", *FOREVER)
    unit = os.path.basename(os.path.dirname(cgroup_of(process.pid)))
    assert show(unit, "ActiveState") == "active"
    assert show(unit, "Delegate") == "yes"
    assert show(unit, "Slice") == "scopekeeper.slice"
    assert MOUNT + show(unit, "ControlGroup") == os.path.dirname(directory_of(process.pid))
    process.kill()
    process.wait()
    eventually(lambda: show(unit, "LoadState") == "not-found" and not scope_directories())


def test_a_failed_command_does_not_block_its_name(keeper: Scopekeeper, session: str) -> None:
    for _ in range(3):
        assert keeper.run("-s", session, "--", "sh", "-c", "kill -9 $$").returncode == -9


def test_setsid_and_double_fork_do_not_get_away(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    leader = keeper.member("-s", session, "--", "python3", "-c", DOUBLE_FORK, str(note))
    helper = pid_in(note)
    assert cgroup_of(helper) == cgroup_of(leader.pid)
    assert os.getsid(helper) != os.getsid(leader.pid)
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0, done.stderr
    assert ended(helper, leader.pid)


def test_what_a_command_leaves_behind_is_still_in_its_leaf(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {note}; exec sleep infinity' & wait $! & sleep 0.01; exit 3"
    leader = keeper.start("-s", session, "--", "sh", "-c", script)
    assert leader.wait() == 3
    helper = pid_in(note)
    directory = directory_of(helper)
    assert "/m-sh." in directory
    assert keeper.call("stop", "-s", session).returncode == 0
    assert ended(helper)
    eventually(lambda: not os.path.isdir(directory))


def test_a_member_that_ignores_sigterm_is_killed_after_the_grace(
    keeper: Scopekeeper, session: str
) -> None:
    process = keeper.start(
        "-s",
        session,
        "--",
        "sh",
        "-c",
        "trap '' TERM HUP INT; echo ready; while :; do sleep 1000; done",
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    done = keeper.call("stop", "-s", session, "--grace", "300ms")
    assert done.returncode == 0, done.stderr
    assert "killed" in done.stdout
    assert process.wait() == -signal.SIGKILL


def test_a_stopped_member_gets_to_handle_sigterm(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    note = tmp_path / "handled"
    script = f"trap 'echo yes > {note}; exit 6' TERM; echo ready; while :; do sleep 0.01; done"
    process = keeper.start("-s", session, "--", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: state_of(process.pid) == "T")
    assert keeper.call("stop", "-s", session, "--grace", "60s").returncode == 0
    assert process.wait() == 6
    assert note.read_text() == "yes\n"


def test_a_member_that_forks_all_the_time_is_ended(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    # every process hands on to two children and ends: whoever walks pids comes too late
    script = tmp_path / "hydra"
    script.write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "while True:\n"
        "    if os.fork():\n"
        "        time.sleep(0.001)\n"
        "        os._exit(0)\n"
    )
    keeper.start("-s", session, "--", "python3", str(script)).wait()
    (directory,) = scope_directories()
    assert processes(directory)
    done = keeper.call("stop", "-s", session, "--grace", "100ms")
    assert done.returncode == 0, done.stdout + done.stderr
    eventually(lambda: not os.path.isdir(directory))


def test_a_nested_run_lands_in_the_same_session(keeper: Scopekeeper, session: str) -> None:
    inner = " ".join(keeper.argv("-n", "inner", "--", *FOREVER))
    outer = keeper.member(
        "-s", session, "-l", "deep", "-n", "outer", "--", "sh", "-c", f"{inner} & wait"
    )
    scope = os.path.dirname(directory_of(outer.pid))
    found = eventually(lambda: [leaf for leaf in leaves(scope) if leaf.startswith("m-inner.")])
    eventually(lambda: processes(f"{scope}/{found[0]}"))
    assert len(scope_directories()) == 1


def test_a_launch_tidies_up_after_members_of_its_own_name_only(
    keeper: Scopekeeper, session: str
) -> None:
    stays = keeper.member("-s", session, "-n", "stays", "--", *FOREVER)
    scope = os.path.dirname(directory_of(stays.pid))
    long = "x" * 120  # as a name it is cut in the leaf's
    others = ["server.py", "server.py.0a1b2c3d", "server2", long + "1"]
    for name in (*others, "server", long + "2"):
        assert keeper.run("-s", session, "-n", name, "--", "true").returncode == 0
    ended = [leaf for leaf in leaves(scope) if not processes(f"{scope}/{leaf}")]
    assert sorted(record_of(f"{scope}/{leaf}")["NAME"] for leaf in ended) == sorted(
        [*others, "server", long + "2"]
    )
    for name in ("server", long + "2"):
        keeper.member("-s", session, "-n", name, "--", *FOREVER)
    left = [leaf for leaf in leaves(scope) if not processes(f"{scope}/{leaf}")]
    assert sorted(record_of(f"{scope}/{leaf}")["NAME"] for leaf in left) == sorted(others)
