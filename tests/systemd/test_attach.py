"""Being at the terminal of a run: typed for real, on terminals of the test's own."""

import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import Callable, Iterator

import pytest

from tests.machine import PROGRAM, Scopekeeper, eventually, text_of
from tests.terminal import Terminal

from .installed import UNIT, Installed
from .manager import systemctl
from .test_exec import begin, pid_of, wait

pytestmark = pytest.mark.systemd

DETACH = "\x1c"


@pytest.fixture
def at() -> Iterator[Callable[..., Terminal]]:
    """Give what opens a terminal with a command of ours in it."""
    opened: list[Terminal] = []

    def open_one(*arguments: str, cols: int = 80, rows: int = 24) -> Terminal:
        words = [PROGRAM, *arguments]
        terminal = Terminal(["sh", "-c", f'stty cols {cols} rows {rows}; exec "$@"', "sh", *words])
        opened.append(terminal)
        return terminal

    yield open_one
    for terminal in opened:
        terminal.end()


def resize(terminal: Terminal, cols: int, rows: int) -> None:
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, cols, 0, 0))


def test_attached_it_is_like_the_command_itself(
    installed: Installed, keeper: Scopekeeper, session: str, at: Callable[..., Terminal]
) -> None:
    assert installed
    assert keeper
    user = at("exec", "-s", session, "--", "sh", "-c", "stty size; read line; exit $line",
              cols=91, rows=17)  # fmt: skip
    user.expect("17 91")
    user.type("7\n")
    assert user.status() == 7


def test_leaving_and_coming_back_shows_what_was_on_the_screen(
    installed: Installed, keeper: Scopekeeper, session: str, at: Callable[..., Terminal]
) -> None:
    assert installed
    user = at("exec", "-s", session, "--", "sh", "-c", "echo before; cat")
    user.expect("before")
    user.type(DETACH)
    run = user.expect(r"\[detached from ([0-9a-f]{8})\]")[1]
    assert user.status() == 0
    assert keeper.call("send", run, "meanwhile", "--enter").returncode == 0
    eventually(lambda: "meanwhile\nmeanwhile" in keeper.call("logs", run).stdout)
    again = at("attach", run[:5])
    again.expect("before")
    again.expect("meanwhile")
    again.type("now\n")
    again.expect("now\r\nnow")
    again.type("\x04")
    again.expect("ended: exited, status 0")
    assert again.status() == 0


def test_three_look_at_one_and_its_window_fits_the_smallest_who_types(
    installed: Installed, keeper: Scopekeeper, session: str, at: Callable[..., Terminal]
) -> None:
    assert installed
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    run = begin(keeper, session, "--cols", "100", "--rows", "40", "--", "sh", "-c", script)
    eventually(lambda: "ready" in keeper.call("logs", run).stdout)
    wide = at("attach", run, cols=120, rows=50)
    wide.expect("50 120")
    small = at("attach", run, cols=60, rows=20)
    wide.expect("20 60")
    at("attach", "--read-only", run, cols=30, rows=10).expect("20 60")
    resize(small, 70, 22)
    wide.expect("22 70")
    small.type(DETACH)
    small.expect("detached")
    wide.expect("50 120")
    assert keeper.call("stop", "-s", session).returncode == 0
    wide.expect("ended: stopped by request, SIG")
    assert wide.status() in (128 + signal.SIGTERM, 128 + signal.SIGKILL)


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_who_is_attached_goes_on_with_the_next_keeper(
    installed: Installed,
    keeper: Scopekeeper,
    session: str,
    at: Callable[..., Terminal],
    how: str,
) -> None:
    assert keeper
    user = at("exec", "-s", session, "--", "sh", "-c", "stty -echo; echo ready; cat")
    user.expect("ready")
    before = eventually(lambda: installed.pid)
    if how == "killed":
        os.kill(before, signal.SIGKILL)
    else:
        assert systemctl("restart", UNIT).returncode == 0
    eventually(lambda: installed.pid not in (0, before))
    user.type("first\n")
    user.expect("first")
    user.type("second\n\x04")
    user.expect("second")
    assert user.status() == 0


def test_a_shell_has_its_job_control(
    installed: Installed, keeper: Scopekeeper, session: str, at: Callable[..., Terminal]
) -> None:
    assert installed
    assert keeper
    shell = at("exec", "-s", session, "--", "bash", "--norc", "--noprofile", "-i")
    shell.expect(r"\$ ")
    shell.type("sleep 1000\n")
    pid = pid_of(session)
    eventually(lambda: text_of(f"/proc/{foreground(pid)}/comm") == "sleep\n")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.type("kill %1; fg\n")
    shell.expect(r"sleep 1000[^$]*\$ ")
    shell.type("exit 5\n")
    assert shell.status() == 5


def foreground(pid: int) -> int:
    """Return the foreground process group of a process's terminal."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[5])


@pytest.mark.parametrize(
    ("words", "seen", "leave"),
    [
        (("top",), r"load average", "q"),
        (("less", "/etc/passwd"), r"root", "q"),
        (("vi", "/etc/passwd"), r"root:", ":q!\n"),
        (("tmux", "-L", "scopekeeper-test", "-f", "/dev/null", "new", "cat"), r"\[0\]", "\x04"),
        ((sys.executable, "-q"), r">>>", "exit()\n"),
    ],
    ids=["top", "less", "vi", "tmux", "python"],
)
def test_a_program_of_the_whole_screen_is_there_again_after_attaching(
    installed: Installed,
    keeper: Scopekeeper,
    session: str,
    at: Callable[..., Terminal],
    words: tuple[str, ...],
    seen: str,
    leave: str,
) -> None:
    assert installed
    run = begin(keeper, session, "--cols", "80", "--rows", "24", "--", *words)
    first = at("attach", run)
    first.expect(seen)
    first.type(DETACH)
    first.expect("detached")
    again = at("attach", run)
    again.expect(seen)
    again.type_until(leave, "ended: exited, status 0")
    assert wait(keeper, run)["status"] == 0


def test_a_program_of_the_whole_screen_redraws_itself(
    installed: Installed, keeper: Scopekeeper, session: str, at: Callable[..., Terminal]
) -> None:
    assert installed
    script = "printf '\\033[?1049hready'; trap 'stty size' WINCH; while :; do sleep 0.02; done"
    run = begin(keeper, session, "--cols", "80", "--rows", "24", "--", "bash", "-c", script)
    eventually(lambda: "ready" in keeper.call("logs", run).stdout)
    user = at("attach", run)
    user.expect("23 80")
    user.expect("24 80")
    user.type(DETACH)
    user.expect("detached")


def test_where_input_is_no_terminal_it_is_passed_on_with_its_end(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    done = keeper.call("exec", "-s", session, "--pipe", "--", "sort", stdin=None, input="b\na\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\nb\n", "")
