"""On a terminal the command is what a shell would have had: foreground, job control, Ctrl-C."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import termios
import time
from collections.abc import Iterator

import pytest

from tests.machine import PATIENCE, Scopekeeper, cgroup_of, eventually, state_of

pytestmark = pytest.mark.systemd


class Terminal:
    """A terminal with the wrapped command as its session leader; what it says, as it comes."""

    def __init__(self, argv: list[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["PS1"] = "$ "
            os.execvp(argv[0], argv)
        self.seen = ""

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.fd, text.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until the terminal shows something, and forget all up to there."""
        deadline = time.monotonic() + PATIENCE
        while True:
            match = re.search(pattern, self.seen)
            if match:
                self.seen = self.seen[match.end() :]
                return match
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} did not come; it shows {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"it ended, and showed {self.seen!r}") from None

    def status(self) -> int:
        """Wait for the end of the session leader and return its exit status."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """Hang up."""
        os.close(self.fd)


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
        terminal.close()
        if state_of(terminal.pid):
            os.kill(terminal.pid, signal.SIGKILL)
            terminal.status()


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


def test_hanging_up_ends_the_shell(shell: Terminal) -> None:
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, shell.fd)  # the last descriptor of the terminal's other side
    os.close(nowhere)
    assert shell.status() == -signal.SIGHUP
