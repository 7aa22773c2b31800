"""The window of a run: who decides its size, who hears of it, and what is drawn in it again."""

import sys
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import pytest

from tests.machine import Scopekeeper, eventually, record_of, scope_directory
from tests.unit.terminals import Tmux
from tests.viewer import Viewer

from .installed import Installed
from .test_exec import begin

pytestmark = pytest.mark.systemd

Call = Callable[..., Viewer]
DETACH = "\x1c"
SIZES = """
import os, signal, sys, time
def tell(*_):
    size = os.get_terminal_size()
    os.write(1, f"[{size.columns}x{size.lines}]\\r\\n".encode())
signal.signal(signal.SIGWINCH, tell)
tell()
while True:
    signal.pause()
"""
"""Says how large its window is, and says it again only when the kernel tells it of another."""
WIDE = """
import sys
lines = ["plain", "中文字 wide", "e\u0301a\u0308 combining", "😀 emoji", "x" * 79 + "중", "한국어"]
print(*lines, "over", sep="\\n", end="\\x1b[6;3H", flush=True)
sys.stdin.read(1)
print("behind", flush=True)
sys.stdin.read()
"""


def run_of(session: str) -> str:
    """Return the only run of a session."""
    return record_of(eventually(lambda: scope_directory(session)))["RUN"]


def test_the_command_is_told_of_every_new_size(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    assert keeper
    user = viewer("exec", "-s", session, "--", sys.executable, "-c", SIZES, cols=91, rows=17)
    user.expect(r"\[91x17\]")
    user.resize(70, 20)
    user.expect(r"\[70x20\]")
    user.resize(200, 60)
    user.expect(r"\[200x60\]")
    other = viewer("attach", run_of(session), cols=50, rows=60)
    user.expect(r"\[50x60\]")
    only_looks = viewer("attach", "--read-only", run_of(session), cols=20, rows=5)
    only_looks.resize(10, 5)
    other.signal("SIGKILL")
    user.expect(r"\[200x60\]")
    assert b"[10x5]" not in user.raw


def test_a_command_may_set_its_size_itself_until_somebody_attaches(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    script = ("stty cols 40 rows 10; trap 'stty size' WINCH; seq -s ' ' 100; stty size; "
              "while :; do sleep 0.05; done")  # fmt: skip
    run = begin(keeper, session, "--cols", "80", "--rows", "24", "--", "sh", "-c", script)
    eventually(lambda: "10 40" in keeper.call("logs", run).stdout)
    looks = viewer("attach", "--read-only", run)
    picture = looks.shows("10 40")
    assert picture[0].startswith("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 1")
    assert len(picture[0]) == 40, "it wrapped there, and is drawn so"
    user = viewer("attach", run)
    user.expect("24 80")


def test_wide_and_combining_characters_are_drawn_again_where_they_stood(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call, tmp_path: Path
) -> None:
    assert installed
    user = viewer("exec", "-s", session, "--", "sh", "-c", 'stty -echo; exec "$@"', "sh",
                  sys.executable, "-c", WIDE)  # fmt: skip
    user.expect("over")
    run = run_of(session)
    again = viewer("attach", run)
    again.expect("over")
    assert keeper.call("send", run, "--keys", "enter").returncode == 0
    for each in (user, again):
        each.expect("behind")
    with Tmux(tmp_path) as terminal:  # pyte has a wide character in half a column
        shown, drawn = (terminal.show(bytes(each.raw)) for each in (user, again))
    assert [normalize("NFC", text) for text in drawn] == [normalize("NFC", text) for text in shown]
    assert shown[0].splitlines()[5:7] == ["중behind", "한국어"]
