"""On a terminal the command is what a shell would have had: foreground, job control, Ctrl-C."""

import fcntl
import os
import shutil
import signal
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Scopekeeper, cgroup_of, eventually, state_of
from tests.terminal import Terminal

pytestmark = pytest.mark.systemd


@pytest.fixture
def shell(keeper: Scopekeeper, session: str) -> Iterator[Terminal]:
    """Give an interactive shell on a terminal, wrapped as a gateway's SHELL would be."""
    bash = shutil.which("bash") or "bash"
    terminal = Terminal(
        keeper.argv("-s", session, "--kind", "pty", "--", bash, "--norc", "--noprofile", "-i")
    )
    try:
        terminal.expect(r"\$ ")
        yield terminal
    finally:
        terminal.end()


def test_the_shell_is_session_leader_in_the_foreground_of_its_terminal(shell: Terminal) -> None:
    assert os.getsid(shell.pid) == os.getpgid(shell.pid) == shell.pid
    assert os.tcgetpgrp(shell.fd) == shell.pid
    shell.type("echo on $(tty) at $$\n")
    assert shell.expect(r"on (/dev/pts/\d+) at (\d+)\r")[2] == str(shell.pid)
    assert "/m-bash." in cgroup_of(shell.pid)
    shell.type("exit 3\n")
    assert shell.status() == 3


def test_a_job_can_be_suspended_resumed_and_interrupted(shell: Terminal) -> None:
    shell.type("sh -c 'echo job $$; exec sleep 1000'\n")
    job = int(shell.expect(r"job (\d+)\r")[1])
    assert os.tcgetpgrp(shell.fd) == os.getpgid(job) != shell.pid
    assert cgroup_of(job) == cgroup_of(shell.pid)
    shell.type("\x1a")
    shell.expect(r"Stopped")
    shell.expect(r"\$ ")
    assert state_of(job) == "T"
    assert os.tcgetpgrp(shell.fd) == shell.pid
    shell.type("fg\n")
    eventually(lambda: state_of(job) == "S" and os.tcgetpgrp(shell.fd) == os.getpgid(job))
    shell.type("\x03")
    shell.expect(r"\$ ")
    eventually(lambda: not state_of(job))
    shell.type("echo status $?\n")
    shell.expect(r"status 130\r")


def test_a_background_job_that_reads_is_stopped_by_the_terminal(shell: Terminal) -> None:
    shell.type("cat &\n")
    job = int(shell.expect(r"\[1\] (\d+)\r")[1])
    eventually(lambda: state_of(job) == "T")
    shell.type("kill -9 %1; wait; echo over\n")
    shell.expect(r"over\r")


def test_the_size_of_the_terminal_and_its_changes_arrive(shell: Terminal) -> None:
    shell.type("trap 'echo changed to $(stty size)' WINCH\n")
    shell.expect(r"\$ ")
    fcntl.ioctl(shell.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    shell.type("\n")
    shell.expect(r"changed to 33 99")


def test_a_run_typed_into_a_terminal_is_a_job_of_its_shell(
    keeper: Scopekeeper, session: str, shell: Terminal
) -> None:
    inner = " ".join(keeper.argv("-s", session, "-l", "inner", "--", "sh", "-c"))
    shell.type(f"{inner} 'echo job $$; exec sleep 1000'\n")
    job = int(shell.expect(r"job (\d+)\r")[1])
    assert os.tcgetpgrp(shell.fd) == os.getpgid(job) == job
    assert cgroup_of(job) != cgroup_of(shell.pid)
    shell.type("\x1a")
    shell.expect(r"Stopped")
    eventually(lambda: state_of(job) == "T")
    shell.type("fg\n")
    eventually(lambda: state_of(job) == "S")
    shell.type("\x03")
    eventually(lambda: not state_of(job))
    shell.type("echo status $?\n")
    shell.expect(r"status 130\r")


def test_hanging_up_ends_the_process_of_the_terminal(shell: Terminal) -> None:
    # sleep reads nothing: a shell may read the end of its input before the signal is there
    shell.type("exec sleep 1000\n")
    eventually(lambda: Path(f"/proc/{shell.pid}/comm").read_text() == "sleep\n")
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, shell.fd)  # the last descriptor of the terminal's other side
    os.close(nowhere)
    assert shell.status() == -signal.SIGHUP
