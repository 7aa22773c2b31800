"""``stop`` ends an interactive shell as the loss of its terminal does, and no other by that."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    children_of,
    eventually,
    is_alive,
    signal_set,
    wait_for_command,
)

pytestmark = pytest.mark.systemd

GRACE = ("--grace", "5m")
"""Longer than anybody here waits: what ends sooner was not killed."""

JOB_CONTROL = (signal.SIGTERM, signal.SIGTSTP, signal.SIGTTOU)


def has(process: "subprocess.Popen[bytes]", name: str, number: int) -> bool:
    """Return whether a signal is in a signal set of a process."""
    return bool(signal_set(process.pid, name) >> number - 1 & 1)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Return both ends of a new terminal."""
    ends = os.openpty()
    yield ends
    for fd in ends:
        os.close(fd)


def at_terminal(
    keeper: Scopekeeper, session: str, terminal: tuple[int, int], *command: str
) -> "subprocess.Popen[bytes]":
    """Start a member that leads a session at the terminal."""
    words = keeper.argv("-s", session, "--kind", "pty", *GRACE, "--", *command)
    inner = terminal[1]
    process = keeper.popen(
        ["setsid", "--ctty", *words], stdin=inner, stdout=inner, stderr=inner,
        env=os.environ | {"HISTFILE": "/dev/null", "ENV": "", "PS1": "at-prompt> "},
    )  # fmt: skip
    wait_for_command(process)
    return process


@pytest.mark.parametrize("shell", [("bash", "--norc", "-i"), ("dash", "-i")], ids=["bash", "dash"])
def test_an_interactive_shell_needs_no_grace(
    keeper: Scopekeeper, session: str, terminal: tuple[int, int], shell: tuple[str, ...]
) -> None:
    process = at_terminal(keeper, session, terminal, *shell)
    eventually(lambda: all(has(process, "SigIgn", each) for each in JOB_CONTROL))
    stopped = keeper.call("stop", "-s", session, timeout=PATIENCE)
    assert stopped.returncode == 0, stopped.stdout
    assert "killed" not in stopped.stdout
    assert process.wait(PATIENCE) != -signal.SIGKILL


@pytest.mark.parametrize("trap", [":", ""], ids=["cleans up", "ignores it"])
def test_a_script_at_a_terminal_has_its_grace_and_no_hangup(
    keeper: Scopekeeper, session: str, terminal: tuple[int, int], tmp_path: Path, trap: str
) -> None:
    script = f"sleep 1000 & trap '{trap}' TERM; until [ -e {tmp_path}/go ]; do :; done; exit 7"
    process = at_terminal(keeper, session, terminal, "sh", "-c", script)
    eventually(lambda: has(process, "SigCgt" if trap else "SigIgn", signal.SIGTERM))
    (sleeper,) = children_of(process.pid)
    stopping = keeper.popen([PROGRAM, "stop", "-s", session], stdout=subprocess.DEVNULL)
    eventually(lambda: not is_alive(sleeper))  # the signals have come
    assert process.poll() is None
    (tmp_path / "go").touch()
    assert process.wait(PATIENCE) == 7
    assert stopping.wait(PATIENCE) == 0
