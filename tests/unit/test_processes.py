"""Processes: their end is told once, of the right one, with the status that can be known."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from scopekeeper.errors import LimitError
from scopekeeper.keeper import processes as module
from scopekeeper.keeper.processes import Processes, sources_here
from scopekeeper.kernel.exit_status import (
    ChildSource,
    Exit,
    PidfdSource,
    ZombieSource,
    exit_of,
    start_of,
)
from scopekeeper.kernel.proc_events import Connector
from tests.machine import eventually, state_of
from tests.watching import Looped, descriptors


class Watched(Looped):
    def __init__(self, **how):
        super().__init__()
        self.processes = Processes(self.loop, **how)
        self.told = []

    def add(self, pid, start_time=None):
        start_time = start_of(pid) if start_time is None else start_time
        return self.processes.watch(pid, start_time, self.told.append)

    def end(self):
        """Wait for one end, and return it."""
        self.until(lambda: self.told)
        return self.told.pop()

    def close(self):
        self.processes.close()
        self.loop.close()


@pytest.fixture
def watched():
    before = descriptors()
    it = Watched()
    yield it
    it.close()
    assert descriptors() == before


@pytest.fixture
def spawn():
    """Start shell commands that wait for a line; nothing of them stays."""
    started = []

    def start(command, **how):
        process = subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **how
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


def go(process):
    process.stdin.write(b"\n")
    process.stdin.flush()


@pytest.mark.parametrize(
    ("wait_status", "status", "number"),
    [(0, 0, None), (3 << 8, 3, None), (9, None, 9), (139, None, 11)],
)
def test_a_wait_status_comes_apart(wait_status, status, number):
    assert exit_of(wait_status, "child") == Exit(status, number, "child")


def test_a_child_of_ours_stays_ours_to_reap(watched, spawn):
    process = spawn("read line; exit 3")
    watched.add(process.pid)
    go(process)
    assert watched.end() == Exit(3, None, "child")
    assert process.wait() == 3


def test_a_child_that_was_killed(watched, spawn):
    process = spawn("read line")
    watched.add(process.pid)
    process.send_signal(signal.SIGKILL)
    assert watched.end() == Exit(None, signal.SIGKILL, "child")


# The child of a child: its parent reaps it when it is told to, or never.
PARENT = """
import os, sys
child = os.fork()
if child == 0:
    os.read(0, 1)
    {end}
print(child, flush=True)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
{then}
os.read(0, 1)
"""


def grandchild(spawn, end, then="os.waitpid(child, 0)"):
    program = PARENT.format(end=end, then=then).replace('"', "'")
    process = spawn(f'exec {sys.executable} -c "{program}"')
    return process, int(process.stdout.readline())


def test_a_zombie_that_nobody_reaps_tells_its_status(watched, spawn):
    process, pid = grandchild(spawn, "os._exit(5)", then="pass")
    watched.add(pid)
    go(process)
    assert watched.end() == Exit(5, None, "zombie")
    assert state_of(pid) == "Z"


def test_one_that_was_a_zombie_already_is_told_too(watched, spawn):
    process, pid = grandchild(spawn, "os.abort()", then="pass")
    start_time = start_of(pid)
    go(process)
    eventually(lambda: state_of(pid) == "Z")
    watched.add(pid, start_time)
    assert watched.end() == Exit(None, signal.SIGABRT, "zombie")


def test_a_grandchild_that_is_reaped_at_once(watched, spawn):
    process, pid = grandchild(spawn, "os._exit(6)")
    watched.add(pid)
    watched.run(0.01)
    go(process)
    eventually(lambda: state_of(pid) == "")  # reaped before anybody looked
    how = watched.end()
    ways = set(watched.processes.sources) & {"pidfd", "connector"}
    assert how == (Exit(6, None, ways.pop()) if ways else Exit(None, None, "unknown"))


def test_a_status_that_only_the_reaped_one_tells_is_waited_for(watched, spawn, monkeypatch):
    if not PidfdSource.works():
        pytest.skip("PIDFD_GET_INFO with the exit flag came with Linux 6.15")
    monkeypatch.setattr(ZombieSource, "status", lambda *_: None)  # as of another uid
    process, pid = grandchild(spawn, "os._exit(8)", then="os.read(0, 1); os.waitpid(child, 0)")
    watched.add(pid)
    go(process)
    eventually(lambda: state_of(pid) == "Z")
    watched.run(0.05)
    assert watched.told == []
    go(process)
    assert watched.end() == Exit(8, None, "pidfd")


def test_a_zombie_that_may_not_be_looked_at_is_waited_for_only_so_long(spawn, monkeypatch):
    monkeypatch.setattr(ZombieSource, "status", lambda *_: None)
    monkeypatch.setattr(module, "Connector", _refuse)
    watched = Watched(patience=0.05)
    process, pid = grandchild(spawn, "os._exit(8)", then="pass")
    watched.add(pid)
    go(process)
    assert watched.end() == Exit(None, None, "unknown")
    assert state_of(pid) == "Z"
    watched.close()


def _refuse():
    raise OSError("not here")


def test_an_old_kernel_is_not_waited_for(spawn, monkeypatch):
    monkeypatch.setattr(PidfdSource, "works", lambda: False)
    monkeypatch.setattr(module, "Connector", _refuse)
    watched = Watched()
    assert watched.processes.sources == ("child", "zombie")
    process, pid = grandchild(spawn, "os._exit(8)")
    watched.add(pid)
    go(process)
    assert watched.end() in (Exit(None, None, "unknown"), Exit(8, None, "zombie"))
    watched.close()


def test_the_whole_process_counts_not_its_first_thread(watched, spawn):
    program = """
import ctypes, os, threading
threading.Thread(target=lambda: os.read(0, 1) and os._exit(3)).start()
print(flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
    process = spawn(f"exec {sys.executable} -c '{program}'")
    process.stdout.readline()
    watched.add(process.pid)
    watched.run(0.05)
    assert watched.told == [], "its first thread has ended, not the process"
    go(process)
    assert watched.end() == Exit(3, None, "child")


def test_another_process_of_the_same_number_is_not_the_one(watched):
    watched.add(os.getpid(), start_of(os.getpid()) - 1)
    assert watched.end() == Exit(None, None, "unknown")
    assert len(watched.processes) == 0


def test_one_that_ended_long_ago_is_told(watched, spawn):
    process = spawn("exit 0")
    start_time = start_of(process.pid)
    process.wait()
    watched.add(process.pid, start_time)
    assert watched.told == [], "not before the caller has what watch returns"
    assert watched.end() == Exit(None, None, "unknown")


def test_nothing_is_told_of_one_that_was_forgotten(watched, spawn):
    process = spawn("read line")
    one = watched.add(process.pid)
    other = watched.add(process.pid)
    watched.processes.forget(one)
    watched.processes.forget(one)
    go(process)
    assert watched.end()
    watched.processes.forget(other)
    assert watched.told == []


def test_hundreds_come_and_go_and_leave_no_descriptor(watched):
    before = descriptors()
    for _ in range(6):
        children = [os.fork() or _wait() for _ in range(50)]
        for pid in children:
            watched.add(pid)
            os.kill(pid, signal.SIGKILL)
        watched.until(lambda: len(watched.told) == 50)
        assert set(watched.told) == {Exit(None, signal.SIGKILL, "child")}
        watched.told.clear()
        for pid in children:
            os.waitpid(pid, 0)
    assert descriptors() == before


def _wait():
    signal.pause()
    os._exit(1)


def test_the_limit_of_descriptors_is_named(watched):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(LimitError, match="LimitNOFILE="):
            watched.add(os.getpid(), 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_that_waits_wakes_nobody(watched, spawn):
    watched.add(spawn("read line").pid)
    watched.run(0.01)
    before = time.process_time()
    watched.run(0.3)
    assert time.process_time() - before < 0.1


@pytest.mark.parametrize("count", [1, 3, 600])
def test_the_connector_tells_of_those_that_are_watched(count):
    try:
        connector = Connector()
    except OSError:
        pytest.skip("no proc connector here")
    children = [os.fork() or _wait() for _ in range(count)]
    other = os.fork() or os._exit(3)
    connector.narrow(children)
    os.waitpid(other, 0)
    for some in (children[at : at + 50] for at in range(0, count, 50)):
        for pid in some:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for pid in some:  # the kernel reports it a moment after the parent knows
            eventually(lambda pid=pid: connector.ended(pid) == signal.SIGKILL)
    assert connector.ended(other) is None
    connector.close()


def test_without_pidfd_info_the_connector_tells(spawn, monkeypatch):
    monkeypatch.setattr(PidfdSource, "works", lambda: False)
    monkeypatch.setattr(ZombieSource, "status", lambda *_: None)
    watched = Watched()
    try:
        if "connector" not in watched.processes.sources:
            pytest.skip("no proc connector here")
        for narrowed in (False, True):
            process, pid = grandchild(spawn, "os._exit(9)")
            watched.add(pid)
            if narrowed:
                watched.run(0.02)
            go(process)
            eventually(lambda pid=pid: state_of(pid) == "")
            assert watched.end() == Exit(9, None, "connector")
    finally:
        watched.close()


def test_what_is_in_use_can_be_asked_beforehand(watched):
    assert sources_here() == watched.processes.sources


def test_a_child_source_knows_nothing_of_strangers():
    pidfd = os.pidfd_open(1)
    assert ChildSource().status(type("Ended", (), {"pidfd": pidfd})()) is None
    os.close(pidfd)


def test_one_of_which_the_telling_fails_keeps_no_other_from_being_told(watched, spawn):
    several = [spawn("read x; exit 3") for _ in range(3)]

    def fail(_):
        raise ValueError("of one scope alone")

    watched.processes.watch(several[0].pid, start_of(several[0].pid), fail)
    for process in several[1:]:
        watched.add(process.pid)
    for process in several:
        go(process)
    for process in several:
        eventually(lambda pid=process.pid: state_of(pid) == "Z")
    watched.until(lambda: len(watched.told) == 2)
    assert {end.status for end in watched.told} == {3}
    assert not len(watched.processes)
