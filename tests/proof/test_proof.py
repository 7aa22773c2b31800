"""The proof itself: it sees what it has to see, and a seed replays."""

import os
import random
import signal
import subprocess

import pytest

from tests.machine import eventually, is_alive, state_of

from .calls import choose, errors_of, parse
from .canaries import Canary
from .checks import _owned, told
from .results import BEGIN, END, HARMS, summarise, write
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
    return Member("it", "s", file, "ends", **how)


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
    page.write_text(f"a\n{BEGIN}\n| head |\n{END}\nb\n")
    write(page, summary)
    lines = page.read_text().splitlines()
    assert lines[:3] == ["a", BEGIN, "| head |"]
    assert "| 1 | 1 | 0 | 0 | 0 | 0 | 1 | 1 | 0 | `make proof COUNT=2 SEED=7` |" in lines[3]
    assert lines[4:] == [END, "b"]
