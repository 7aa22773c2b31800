"""exec at its edges: what its command inherits, and how it fails; runs that exec did not start."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import (
    PATIENCE,
    PROGRAM,
    ROOT,
    Scopekeeper,
    eventually,
    is_alive,
    scope_directories,
    wait_for_command,
)

from .installed import UNIT, Installed
from .manager import Units, manager_version, state, systemctl
from .test_exec import begin, pid_of, wait

pytestmark = pytest.mark.systemd


def descriptors_of(pid: int) -> set[int]:
    return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}


def test_a_command_gets_none_of_the_callers_descriptors(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    ours, theirs = socket.socketpair()
    master, slave = os.openpty()
    given = [ours.fileno(), master, slave]
    for way in ("--pty", "--pipe"):
        words = [PROGRAM, "exec", "-d", way, "-s", f"{session}:{way}", "--", "sleep", "infinity"]
        done = subprocess.run(words, pass_fds=given, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert descriptors_of(pid_of(f"{session}:{way}")) == {0, 1, 2}
    member = keeper.popen(
        [PROGRAM, "run", "-s", session, "--", "sleep", "infinity"], pass_fds=given
    )
    wait_for_command(member)
    assert descriptors_of(member.pid) >= {0, 1, 2, *given}, "run is the same process"
    for each in (ours, theirs):
        each.close()
    os.close(master)
    os.close(slave)


_LATE = """\
import os, select
poll = select.poll()
poll.register(0, select.POLLIN)
poll.poll()
os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
"""
"""Becomes a bash whose input has ended already."""


def test_a_shell_ends_with_its_input_even_if_that_ends_before_the_prompt(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    for command in ((sys.executable, "-c", _LATE), ("bash", "--norc", "--noprofile")):
        done = keeper.call("exec", "-s", session, "--", *command, timeout=300)
        assert done.returncode == 0, (done.stdout, done.stderr)


def test_where_its_output_cannot_be_written_the_status_is_the_commands(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    script = "echo some; sleep 0.2; echo more; exit 5"
    words = [PROGRAM, "exec", "-s", session, "--pipe", "--", "sh", "-c", script]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 5
    (line,) = [line for line in done.stderr.splitlines() if "cannot be shown" in line]
    assert "No space left on device" in line
    run = line.partition("scopekeeper logs ")[2].partition("`")[0]
    assert keeper.call("logs", run).stdout == "some\nmore\n"
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *words], stdin=subprocess.DEVNULL)
    assert done.returncode == 5


def test_what_it_cannot_start_for_want_of_something_is_125(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    begin(keeper, f"{session}:first", "--", "true")
    statuses = []
    for most in range(8, 40):  # with fewer Python itself does not start
        done = subprocess.run(
            [PROGRAM, "exec", "-d", "-s", session, "--", "true"], capture_output=True, text=True,
            preexec_fn=lambda most=most: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)),
        )  # fmt: skip
        statuses.append(done.returncode)
        assert done.returncode in (0, 125), (most, done.stderr)
        assert len(done.stderr.splitlines()) == (1 if done.returncode else 0)
        if not done.returncode:
            break
    assert 125 in statuses
    if not ROOT:  # which has no such limit
        done = subprocess.run(
            [PROGRAM, "exec", "-d", "-s", session, "--", "true"], capture_output=True, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)),
        )  # fmt: skip
        assert (done.returncode, "ulimit -u" in done.stderr) == (125, True), done.stderr
    eventually(lambda: not scope_directories())
    listed = Path(os.environ["SCOPEKEEPER_STATE"], "runs").iterdir()
    for path in listed:
        eventually(lambda path=path: json.loads((path / "run.json").read_text())["ended"])


def test_without_an_environment_a_keeper_is_started_all_the_same(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    try:
        words = ["env", "-i", f"SCOPEKEEPER_STATE={tmp_path}", PROGRAM, "exec", "-s", session]
        done = subprocess.run([*words, "--", "sh", "-c", "exit 7"], capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (7, 0), done.stderr
        assert keeper.call("run", "-s", session, "--", "true").returncode == 0
    finally:
        systemctl("stop", UNIT)


def kill_until_given_up(keeper: Installed) -> None:
    """Kill it until systemd does not start it again."""

    def given_up() -> bool:
        pid = keeper.pid
        if pid:
            os.kill(pid, signal.SIGKILL)
        return state(UNIT) == "failed"

    eventually(given_up, pause=0.02)


def test_a_keeper_that_was_killed_too_often_is_started_again(
    installed: Installed, keeper: Scopekeeper, units: Units, session: str
) -> None:
    limit = "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n"
    units.write(f"{UNIT}.d/50-limit.conf", limit)
    first = begin(keeper, session, "--", "cat")
    pid = pid_of(session)
    kill_until_given_up(installed)
    run = begin(keeper, f"{session}:next", "--", "sh", "-c", "exit 4")
    assert wait(keeper, run)["status"] == 4
    if manager_version() >= 254:  # whose store outlives the failure
        assert is_alive(pid)
        kill_until_given_up(installed)
        assert keeper.call("send", first, "hello", "--enter").returncode == 0
        eventually(lambda: "hello\nhello" in keeper.call("logs", "--text", first).stdout)


def test_a_keeper_that_does_not_stay_is_reported_at_once(
    installed: Installed, keeper: Scopekeeper, units: Units, session: str
) -> None:
    units.write(f"{UNIT}.d/50-limit.conf", "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n")
    installed.write("false")
    done = keeper.call("exec", "-d", "-s", session, "--", "true")
    assert (done.returncode, done.stdout) == (125, "")
    (line,) = done.stderr.splitlines()
    assert "has ended" in line
    assert "journalctl" in line


def test_a_run_that_exec_did_not_start_is_explained_and_can_be_waited_for(
    installed: Installed, keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    begin(keeper, f"{session}:first", "--", "true")
    eventually(lambda: installed.pid)
    go = tmp_path / "go"
    script = f"until test -e {go}; do sleep 0.05; done; exit 3"
    words = ["run", "-s", session, "--run", "4f1d09c7", "--kind", "pty", "--", "sh", "-c", script]
    member = keeper.popen([PROGRAM, *words])
    wait_for_command(member)
    for command in (("attach", "4f1d09c7"), ("logs", "4f1d"), ("send", "4f1d09c7", "x")):
        done = keeper.call(*command)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert "does not hold the terminal of the run 4f1d09c7" in line
        assert "scopekeeper wait 4f1d09c7" in line
        assert f"scopekeeper stop {os.path.basename(os.path.dirname(cgroup(member.pid)))}" in line
    assert keeper.call("wait", "--timeout", "10ms", "4f1d09c7").returncode == 124
    waiting = keeper.popen([PROGRAM, "wait", "--json", "4f1d09c7"], stdout=subprocess.PIPE)
    go.touch()
    assert member.wait(60) == 3
    answer = json.loads(waiting.communicate(timeout=PATIENCE)[0])
    assert answer["version"] == 1
    (ended,) = answer["runs"]
    assert (ended["run"], ended["reason"], ended["status"]) == ("4f1d09c7", "exited", 3)
    assert waiting.returncode == 3
    assert keeper.call("wait", "4f1d09c7").returncode == 3, "it is in the history"
    for words in (("attach",), ("wait",), ("logs",), ("send", "--enter")):
        done = keeper.call(*words, "00000000")
        assert (done.returncode, "there is no run '00000000'" in done.stderr) == (4, True), words


def cgroup(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().rpartition("::")[2].strip()


def test_answers_have_a_version_and_say_where_output_was_cut(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    runs = []
    for lines in (3, 3000):
        done = keeper.call("exec", "-d", "--json", "-s", session, "--", "seq", str(lines))
        begun = json.loads(done.stdout)
        assert (begun["version"], begun["session"]) == (1, session)
        runs.append(begun["run"])
    answer = json.loads(keeper.call("wait", "--json", *runs).stdout)
    assert answer["version"] == 1
    assert [ended["run"] for ended in answer["runs"]] == runs
    assert [ended["output_cut"] for ended in answer["runs"]] == [False, True]
    assert answer["runs"][0]["output"] == "1\n2\n3\n"
    assert answer["runs"][1]["output"].endswith("2999\n3000\n")


def test_nobody_who_reads_ends_the_attachment_and_not_the_run(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    reader, writer = os.pipe()
    os.close(reader)
    argv = [PROGRAM, "exec", "-s", session, "--", "sh", "-c", "echo hi; sleep 0.2; exit 5"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
    (end,) = eventually(
        lambda: json.loads(keeper.call("history", "-s", session, "--json").stdout)["ends"]
    )
    assert end["exit_status"] == 5
