"""The programs that people have terminals for: seen through scopekeeper as they are without it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import Scopekeeper, eventually, record_of, scope_directory
from tests.viewer import Viewer

from .installed import Installed

pytestmark = pytest.mark.systemd

DETACH = "\x1c"
ENCODED_DETACH = "\x1b[27;5;92~"
"""What xterm sends for the same key once a program has asked for modifyOtherKeys."""
VI = ("vi", "-u", "NONE", "-N", "-n")
Call = Callable[..., Viewer]


def test_an_editor_is_used_over_several_sittings(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call, tmp_path: Path
) -> None:
    assert installed
    file = tmp_path / "notes"
    user = viewer("exec", "-s", session, "--", *VI, str(file))
    user.shows("[New]")
    assert user.is_raw
    user.type("ifirst line\rzweite Zeile äöü 中文\x1b")
    user.shows("zweite Zeile äöü 中文")
    user.resize(100, 30)
    user.until(lambda lines: lines[28] == "~")
    user.type(":set lines? columns?\r")
    user.shows("columns=100")
    user.type("\rggx")
    picture = user.until(lambda lines: lines[0] == "irst line")
    assert picture[1].startswith("zweite Zeile äöü 中")
    assert len(picture) == 30
    assert b"\x1b[>4;2m" in user.raw
    user.type(ENCODED_DETACH)
    run = user.expect(r"\[detached from ([0-9a-f]{8})\]")[1].decode()
    assert user.status() == 0
    assert user.picture()[0] == f"[detached from {run}]", "as after an editor without scopekeeper"
    assert not any(user.picture()[1:])

    assert keeper.call("send", run, "Gothird").returncode == 0
    assert keeper.call("send", run, "--keys", "esc").returncode == 0
    again = viewer("attach", run, cols=100, rows=30)
    again.until(lambda lines: lines[0] == "irst line" and lines[2] == "third")
    eventually(lambda: again.cursor == (4, 2))
    again.type(":wq\r")
    again.expect("ended: exited, status 0")
    assert again.status() == 0
    assert file.read_text() == "irst line\nzweite Zeile äöü 中文\nthird\n"


def test_an_editor_that_gives_up_has_its_status(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    assert keeper
    user = viewer("exec", "-s", session, "--", *VI, "/etc/passwd")
    user.shows("root:")
    user.type(":cq\r")
    assert user.status() == 1


def test_a_python_prompt_takes_blocks_exceptions_and_interrupts(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    assert keeper
    user = viewer("exec", "-s", session, "--", sys.executable, "-q")
    user.shows(">>>")
    user.type("def twice(n):\r  return n * 2\r\rprint('is', twice(21))\r")
    user.shows("is 42")
    user.type("1/0\r")
    user.shows("ZeroDivisionError: division by zero")
    user.type("import time; print('wai' + 'ting'); time.sleep(1000)\r")
    user.expect("waiting\r")
    user.type("\x03")
    user.expect("KeyboardInterrupt.*>>> ")
    user.type("unfinished(")
    user.shows("unfinished(")  # from Python 3.14 on with colours in between
    user.type("\x03")
    user.expect("KeyboardInterrupt.*>>> ")
    user.type("raise SystemExit(3)\r")
    assert user.status() == 3


def test_a_multiplexer_is_left_by_its_own_keys_and_there_again(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call, tmp_path: Path
) -> None:
    assert installed
    assert keeper
    tmux = f"tmux -S {tmp_path}/tmux -f /dev/null"
    user = viewer("exec", "-s", session, "--", "sh")
    user.shows("$" if "$" in user.until(any)[0] else "#")
    user.type(f"{tmux} new 'echo left; cat'\r")
    user.until(lambda lines: lines[0] == "left" and "[0]" in lines[-1])
    user.type("\x02%")
    user.shows("│")
    user.type("echo ri''ght\r")
    split = user.until(
        lambda lines: (
            lines[0].startswith("left")
            and "right" in "".join(lines)
            and any(line.endswith(("$", "#")) for line in lines[1:])
        )
    )
    assert "│" in split[0]
    user.type("\x02d")
    user.shows("[detached (from session 0)]")
    user.type("clear; echo back in the shell\r")
    user.until(lambda lines: lines[0] == "back in the shell")
    user.type(f"{tmux} attach\r")
    assert user.shows("right")[:20] == split[:20]
    user.type(DETACH)
    run = user.expect(r"\[detached from ([0-9a-f]{8})\]")[1].decode()
    assert user.status() == 0
    again = viewer("attach", run)
    again.until(lambda lines: lines[:20] == split[:20])
    again.type("exit\r")
    again.until(lambda lines: "│" not in lines[0])
    again.type("\x04")
    again.shows("[exited]")
    again.type("exit 4\r")
    assert again.status() == 4


def test_a_pager_searches_and_leaves_the_screen_as_it_was(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call, tmp_path: Path
) -> None:
    assert installed
    assert keeper
    file = tmp_path / "text"
    file.write_text("".join(f"line {number}\n" for number in range(1, 501)))
    user = viewer(
        "exec", "-s", session, "--", "sh", "-c", f"echo before; less {file}; echo after $?"
    )
    user.until(lambda lines: lines[0] == "line 1")
    user.type("/line 250\r")
    user.until(lambda lines: lines[0] == "line 250")
    user.type("G")
    user.shows("line 500")
    user.type("q")
    user.until(lambda lines: lines[:2] == ["before", "after 0"])
    assert user.status() == 0


def test_what_is_seen_is_what_is_seen_without_scopekeeper(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call, tmp_path: Path
) -> None:
    assert installed
    assert keeper
    file = tmp_path / "text"
    file.write_text("".join(f"\t{number} äöü 中文 {'x' * number}\n" for number in range(200)))
    for name, words, seen in (
        ("vi", (*VI, "-c", "set number list", str(file)), "1"),
        ("less", ("less", "-N", str(file)), "text"),
        ("tmux", ("tmux", "-S", f"{tmp_path}/SOCKET", "-f", "/dev/null", "new", "-n", "here",
                  f"cat {file}; tmux set status-right ''; exec cat"), "198"),
    ):  # fmt: skip
        plain = Viewer([word.replace("SOCKET", "plain") for word in words])
        try:
            expected = plain.shows(seen)
        finally:
            plain.close()
        user = viewer("exec", "-s", f"{session}:{name}", "--", *words)
        user.until(lambda lines, expected=expected: lines == expected)
        user.type(DETACH)
        run = user.expect(r"detached from ([0-9a-f]{8})")[1].decode()
        assert user.status() == 0
        again = viewer("attach", run)
        # a program that redraws itself does not repeat its message in the last line
        again.until(lambda lines, expected=expected: lines[:-1] == expected[:-1])
        assert keeper.call("stop", "-s", f"{session}:{name}").returncode == 0
        again.status()


def test_who_comes_later_sees_what_who_was_there_sees(
    installed: Installed, keeper: Scopekeeper, session: str, viewer: Call
) -> None:
    assert installed
    first = viewer("exec", "-s", session, "--", "top", "-d", "1000")
    first.shows("COMMAND")
    later = viewer("attach", record_of(scope_directory(session))["RUN"])
    picture = later.until(lambda lines: lines == first.picture() and later.cursor == first.cursor)
    assert picture[0].startswith("top - ")
    assert len([line for line in picture if line]) > 8
    later.type("q")
    assert later.status() == 0
    assert first.status() == 0
    assert keeper
