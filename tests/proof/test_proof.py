"""The proof itself: it sees what it has to see, and a seed replays."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import eventually, is_alive, state_of, text_of

from .calls import (
    SHORT,
    Call,
    Fault,
    choose,
    errors_of,
    offered,
    parse,
    programs,
    programs_of,
    settled,
    was_struck,
)
from .canaries import Canary
from .checks import _owned, told
from .results import BEGIN, COLUMNS, END, HARMS, merge, summarise, write
from .trial import Trial
from .world import SERVER, Member, Ran, ready

LOG = """\
7   execve("/opt/venv/bin/scopekeeper", ["scopekeeper"], 0x7 /* 3 vars */) = 0
7   openat(AT_FDCWD, "/opt/venv/lib/scopekeeper/launcher/hot.cpython-313", O_RDONLY) = 3
{loading}7   mkdir("/sys/fs/cgroup/x", 0755 <unfinished ...>
8   mkdir("/sys/fs/cgroup/y", 0755) = 0
7   <... mkdir resumed>) = 0
7   mkdir("/sys/fs/cgroup/z", 0755) = 0
7   --- SIGCHLD {{si_signo=SIGCHLD}} ---
7   openat(AT_FDCWD, "/proc/self/stat", O_RDONLY) = 3
+++ exited with 0 +++
""".format(loading='7   read(3, "x", 9) = 1\n' * 8)


@pytest.fixture
def canary(tmp_path):
    paths = {"PROOF_READY": str(tmp_path / "ready"), "PROOF_SIGNALS": str(tmp_path / "signals")}
    child = subprocess.Popen(SERVER, env={**os.environ, **paths})
    eventually(lambda: ready(tmp_path / "ready"))
    made = Canary("it", child.pid, os.pidfd_open(child.pid), tmp_path / "signals")
    yield made
    child.kill()
    child.wait()
    os.close(made.pidfd)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGCONT, signal.SIGUSR1])
def test_a_canary_reports_a_signal(canary, number):
    assert canary.complaint() == ""
    os.kill(canary.pid, number)
    assert signal.Signals(number).name in eventually(canary.complaint)
    assert is_alive(canary.pid)


def test_a_canary_reports_its_stop_and_its_end(canary):
    os.kill(canary.pid, signal.SIGSTOP)
    eventually(lambda: state_of(canary.pid) == "T")
    assert "is stopped" in canary.complaint()
    os.kill(canary.pid, signal.SIGKILL)
    assert "is dead" in eventually(lambda: "is dead" in canary.complaint() and canary.complaint())


def test_calls_are_counted_for_each_thread_as_strace_counts_them():
    calls = parse(LOG)
    assert [(each.name, each.nth, each.ours) for each in calls[-4:]] == [
        ("mkdir", 1, True), ("mkdir", 1, True), ("mkdir", 2, True), ("openat", 2, True),
    ]  # fmt: skip
    assert not any(each.ours for each in calls[:-4])


def test_a_seed_chooses_the_same_points_and_errors_only_of_the_program():
    calls = parse(LOG)
    for errors in (False, True):
        chosen = [
            [str(choose(calls, random.Random(f"7/{each}"), errors=errors)) for each in range(50)]
            for _ in range(2)
        ]
        assert chosen[0] == chosen[1]
        assert len(set(chosen[0])) > 3
    for number in range(50):
        fault = choose(calls, random.Random(number), errors=True)
        assert fault.call.ours
        assert fault.error in errors_of(fault.call)


class Left:
    def __init__(self, tmp_path):
        self.state = tmp_path


def member(tmp_path, **how):
    gone = subprocess.Popen(["true"])
    gone.wait()
    file = tmp_path / "ready"
    file.write_text(f'{{"pid": {gone.pid}, "member": "m-it.0123abcd"}}')
    return Member("it", file, "ends", **how)


def test_an_owned_path_is_left_if_it_is_there_after_the_end(tmp_path):
    owned = tmp_path / "path"
    owned.mkdir()
    ended = member(tmp_path, owned=owned)
    assert "left: the path" in _owned(Left(tmp_path), ended)[0]
    owned.rmdir()
    assert _owned(Left(tmp_path), ended) == []
    (tmp_path / "owned").mkdir()
    (tmp_path / "owned" / "1.claim").write_text(f"PATH={owned}\n")
    assert "left: the claim" in _owned(Left(tmp_path), ended)[0]


def test_a_traceback_and_a_hang_are_seen():
    argv = ("scopekeeper", "ls")
    assert told(Ran(argv, 1, "Traceback (most recent call last):\n  x\nOSError: y\n"))
    assert told(Ran(argv, None, ""))
    assert told(Ran(argv, 1, "scopekeeper: no\n")) == []


def test_what_came_out_is_appended_as_a_row(tmp_path):
    about = dict.fromkeys(("commit", "kernel", "systemd", "Python", "user"), "x") | {"seed": "7"}
    bad = Trial(2, "stop", "error", "EIO", struck=True, wrong=["left: a", "early: b"])
    trials = [Trial(0, "stop", "control", ""), Trial(1, "stop", "kill", "", struck=True), bad]
    summary = summarise(trials, 8, about)
    assert (summary["trials"], summary["struck"]) == (2, 2)
    assert {name for name in HARMS if summary["harms"][name]} == {"left", "early"}
    page = tmp_path / "page.md"
    page.write_text(f"a\n{BEGIN}\n| head |\n|---|\n{END}\nb\n")
    write(page, summary)
    write(page, merge([summary, summary]) | {"about": about | {"user": "root"}})
    lines = page.read_text().splitlines()
    assert lines[:4] == ["a", BEGIN, "| head |", "|---|"]
    assert lines[4].endswith(
        "| 1 | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 1 | 1 | 0 | `make proof COUNT=2 SEED=7` |"
    )
    assert lines[5].endswith(
        "| 2 | 2 | 0 | 0 | 0 | 0 | 0 | 0 | 2 | 2 | 0 | "
        "`make proof COUNT=4 SEED=7 PROOF_ARGS=--root` |"
    )
    assert lines[7:] == [
        "- In all as root: 4 struck; 0 innocent, 0 lost, 2 early, 2 left, 0 other",
        "- In all as x: 2 struck; 0 innocent, 0 lost, 1 early, 1 left, 0 other",
        END,
        "b",
    ]


def test_the_page_has_the_columns_that_are_written():
    page = (Path(__file__).parents[2] / "docs/reliability.md").read_text()
    table = page.partition(BEGIN)[2].partition(END)[0].strip()
    assert tuple(table.splitlines()[0].strip("| ").split(" | ")) == COLUMNS


SCRIPT = """\
import os, subprocess, sys
for _ in range(3):
    subprocess.run(["sh", "-c", "exit 0"])
print(subprocess.run(["sh", "-c", "exec sleep 0"]).returncode, flush=True)
"""


def call(strike, *argv, **how):
    return subprocess.run([*strike.argv, *argv], capture_output=True, text=True, timeout=60, **how)


def test_programs_that_a_command_starts_are_found_and_one_of_them_is_killed(tmp_path):
    argv = (sys.executable, "-c", SCRIPT)
    log = tmp_path / "programs"
    assert call(programs_of(log), *argv).stdout == "0\n"
    settled(log)
    found = {each.name: each for each in programs(log.read_text())}
    assert set(found) == {"sh#1", "sh#2", "sh#3", "sh#4", "sleep#1"}
    last = found["sleep#1"]
    done = call(last.kill(last.calls // 2, tmp_path / "strike"), *argv)
    assert (done.stdout, done.returncode) == (f"-{signal.SIGKILL}\n", 0)
    done = call(last.kill(last.calls + 99, tmp_path / "none"), *argv)
    assert done.stdout == "0\n"
    assert not was_struck(tmp_path / "none")
    assert was_struck(tmp_path / "strike")


@pytest.mark.parametrize("executes", [True, False])
def test_a_call_fails_once_and_a_command_is_killed_before_one(tmp_path, executes):
    script = "import os; [os.write(1, b'x\\n') for _ in range(5)]"
    argv = (sys.executable, "-IS", "-c", script)
    call_ = Call("write", 3, 9, "1, 'x'", True, "7", True)
    failed = call(Fault(call_, 9, "ENOSPC", executes=executes).strike(tmp_path / "1"), *argv)
    assert len(failed.stdout.splitlines()) == 2
    assert "No space left" in failed.stderr
    killed = call(Fault(call_, 9, executes=executes).strike(tmp_path / "2"), *argv)
    assert (len(killed.stdout.splitlines()), killed.returncode) == (2, -signal.SIGKILL)
    settled(tmp_path / "2")
    assert was_struck(tmp_path / "1")
    assert was_struck(tmp_path / "2")


def test_what_runs_in_a_member_is_left_alone(tmp_path):
    log = tmp_path / "programs"
    member = {**os.environ, "SCOPEKEEPER_MEMBER": "m-it.0123abcd"}
    call(programs_of(log), "sh", "-c", "sh -c 'exit 0'; exit 3", env=member)
    assert programs(text_of(log)) == []


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="a register is changed")
def test_a_short_write_writes_half_and_says_so(tmp_path):
    file = tmp_path / "file"
    script = (
        f"import os; os.write(1, str(os.write(os.open({str(file)!r}, 65), b'12345678')).encode())"
    )
    calls = parse('7   execve("x") = 0\n7   openat(AT_FDCWD, "/scopekeeper/main.py") = 3\n'
                  + '7   read(3, "x", 9) = 1\n' * 8
                  + f'7   write(3<{file}>, "12345678", 8) = 8\n')  # fmt: skip
    assert offered(calls) == sorted(
        {"EINTR", "EIO", "ENOSPC", "EROFS", SHORT, *errors_of(calls[-1])}
    )
    fault = Fault(calls[-1], len(calls), SHORT)
    done = call(fault.strike(tmp_path / "strike"), sys.executable, "-c", script)
    assert (done.stdout, file.read_text()) == ("4", "1234")
    assert was_struck(tmp_path / "strike")


@pytest.mark.parametrize(
    "text", ['write(3</sys/fs/cgroup/x/cgroup.procs>, "12", 2) = 2', 'write(1</f>, "1", 1) = 1',
             'sendto(3<UNIX-DGRAM:[1->2]>, "12", 2, 0, NULL, 0) = 2',
             'write(3</f>, "12", 2 <unfinished ...>', 'read(3</f>, "12", 2) = 2']
)  # fmt: skip
def test_what_the_kernel_writes_whole_is_never_short(text):
    (found,) = parse(f'7   execve("x") = 0\n7   {text}\n')
    assert not found.can_be_short
