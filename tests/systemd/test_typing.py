"""What is typed reaches the command whole, however much it is and however it ends."""

import hashlib
import sys
from collections.abc import Callable

import pytest

from tests.machine import Scopekeeper, eventually, state_of, text_of
from tests.viewer import Viewer

from .installed import Installed
from .test_attach import foreground
from .test_exec import begin, pid_of, wait

pytestmark = pytest.mark.systemd

Call = Callable[..., Viewer]
DETACH = "\x1c"
PASTE = "".join(f"{number:05} {'x' * (number % 90)}\n" for number in range(2000))
READER = """
import hashlib, sys, tty
tty.setraw(0)
print("ready", flush=True)
print(hashlib.sha256(sys.stdin.buffer.read(int(sys.argv[1]))).hexdigest(), end="\\r\\n", flush=True)
"""


def test_a_large_paste_arrives_whole(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    user = viewer("exec", "-s", session, "--", "sh", "-c", "stty -echo; echo ready; cat; exit 5")
    user.expect("ready\r\n")
    lines = PASTE + "y" * 4094 + "\n"
    assert len(lines) > 100_000
    user.type(lines)
    user.expect("yyyy\r\n")
    user.type("\x04")
    assert user.status() == 5
    assert lines.replace("\n", "\r\n").encode() in user.raw

    data = bytes(byte for byte in range(256) if byte != 0x1C) * 400
    user = viewer(
        "exec", "-s", f"{session}:raw", "--", sys.executable, "-c", READER, str(len(data))
    )
    user.expect("ready")
    user.type(data)
    user.expect(hashlib.sha256(data).hexdigest())
    assert user.status() == 0
    assert keeper


def test_where_input_is_no_terminal_its_end_is_the_end_of_what_is_typed(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    for given in ("one\ntwo\n", "no line end", ""):
        done = keeper.call("exec", "-s", session, "--", "sh", "-c", "cat; exit 6",
                           stdin=None, input=given)  # fmt: skip
        assert done.returncode == 6
        assert done.stdout.endswith(given)
    run = begin(keeper, session, "--", "sh", "-c", "stty -echo; echo ready; cat; echo over")
    eventually(lambda: "ready" in keeper.call("logs", run).stdout)
    assert keeper.call("send", run, "half a line").returncode == 0
    assert keeper.call("send", run, "--eof").returncode == 0
    assert wait(keeper, run)["status"] == 0
    assert keeper.call("logs", run).stdout == "ready\nhalf a lineover\n"


def test_jobs_are_stopped_and_ended_by_keys(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    assert keeper
    user = viewer("exec", "-s", session, "--", "bash", "--norc", "--noprofile", "-i")
    user.expect(r"\$ ")
    pid = pid_of(session)

    def begins(command: str) -> None:
        user.type(command)
        # what is typed earlier is read by the shell's editor
        eventually(lambda: text_of(f"/proc/{foreground(pid)}/comm") == "cat\n")

    begins("cat\n")
    user.type("to cat\n")
    user.expect("to cat\r\nto cat")
    user.type("\x1a")
    user.expect(r"Stopped.*\$ ")
    user.type("bg\n")
    user.expect(r"cat &.*\$ ")
    begins("fg\n")
    user.type("again\n")
    user.expect("again\r\nagain")
    user.type("\x04")
    user.expect(r"\$ ")
    user.type("sh -c 'kill -TSTP $$; echo went  on'\n")
    user.expect(r"Stopped.*\$ ")
    user.type("fg\n")
    user.expect(r"went on\r.*\$ ")
    user.type("sleep 1000\n")
    eventually(lambda: text_of(f"/proc/{foreground(pid)}/comm") == "sleep\n")
    user.type("\x03")
    user.expect(r"\$ ")
    user.type("\x04")
    assert user.status() == 130


def test_who_is_stopped_and_goes_on_is_at_the_terminal_again(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    user = viewer("exec", "-s", session, "--", "sh", "-c", "stty -echo; echo ready; cat")
    user.expect("ready")
    pid = user.command
    user.signal("SIGSTOP")
    eventually(lambda: state_of(pid) == "T")
    user.put_right()  # as a shell does
    user.signal("SIGCONT")
    eventually(lambda: user.is_raw)
    user.type("typed\r")
    user.expect("typed")
    user.type("\x04")
    assert user.status() == 0
    assert keeper


def test_the_keys_that_detach_can_be_others_or_none(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    run = begin(keeper, session, "--", "sh", "-c", "stty raw -echo; echo ready; cat -v")
    eventually(lambda: "ready" in keeper.call("logs", run).stdout)
    user = viewer("attach", "--detach-keys", "ctrl-p,ctrl-q", run)
    user.shows("ready")
    user.type("a\x1c\x10b")
    user.expect(r"a\^\\\^Pb")
    user.type("\x10\x11")
    assert user.status() == 0
    user = viewer("attach", run, SCOPEKEEPER_DETACH_KEYS="ctrl-t")
    user.shows("ready")
    user.type("c\x1c")
    user.expect(r"c\^\\")
    user.type("\x14")
    assert user.status() == 0
    user = viewer("attach", "--detach-keys", "none", run)
    user.shows("ready")
    user.type("d\x1c\x14e")
    user.expect(r"d\^\\\^Te")
    assert keeper.call("stop", "-s", session).returncode == 0
    assert user.status() == 143


def test_a_flood_can_be_left_and_interrupted_at_once(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    run = begin(keeper, session, "--log-max", "1M", "--", "yes", "x" * 70)
    pid = pid_of(session)
    user = viewer("attach", run)
    user.expect("xxxx")
    before = len(user.raw)
    user.type(DETACH)
    assert user.status() == 0
    assert len(user.raw) - before < 4 << 20
    stalled = viewer("attach", run)
    stalled.expect("xxxx")
    stalled.stalls()
    stalled.type("\x03")
    eventually(lambda: state_of(pid) == "")
    stalled.stalls(False)
    stalled.expect("ended: signalled, SIGINT")
    assert stalled.status() == 130
