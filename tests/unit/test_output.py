"""Standard output that is closed, full or a terminal: no traceback, and the right exit status."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import scopekeeper

ROOT = Path(scopekeeper.__file__).parents[1]
PROGRAM = (sys.executable, "-m", "scopekeeper")
SHOWING = (("history",), ("policy", "show"), ("--help",), ("ls", "--help"), ("wrap", "--check"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without anything in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    return tmp_path


def call(words, redirection="", **how):
    """Run a command by a shell that redirects it; return its status and what it wrote."""
    script = f'exec "$@" {redirection}'
    argv = ["sh", "-c", script, "sh", *PROGRAM, *words]
    return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=120, **how)


@pytest.mark.parametrize("words", SHOWING, ids=" ".join)
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_descriptor_changes_nothing(words, redirection, home):
    usual, ran = call(words), call(words, redirection)
    assert ran.returncode == usual.returncode
    assert ran.stderr in ("", usual.stderr)


@pytest.mark.parametrize("words", SHOWING[:4], ids=" ".join)
def test_what_cannot_be_shown_is_one_line_and_status_1(words, home):
    ran = call(words, ">/dev/full")
    assert ran.returncode == 1
    assert ran.stderr == ("scopekeeper: cannot write to standard output: No space left on device\n")


def test_a_command_that_acts_keeps_its_status_where_the_answer_is_lost(home):
    config = home / "mcp.json"
    config.write_text('{"mcpServers": {"time": {"command": "mcp-server-time"}}}')
    ran = call(["wrap", str(config)], ">/dev/full")
    assert ran.returncode == 0
    assert "cannot write to standard output" in ran.stderr
    assert '"run"' in config.read_text()


@pytest.mark.parametrize("session", ["status", "--list"])
def test_a_word_of_another_command_makes_no_difference(session, home):
    words = ["stop", "-s", session, "--json"]
    usual, ran = call(words), call(words, ">/dev/full")
    assert ran.returncode == usual.returncode == 0
    assert "cannot write to standard output" in ran.stderr


def test_nobody_who_reads_is_no_error_to_speak_of(home):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody:
        ran = subprocess.run(
            [*PROGRAM, "--help"], stdout=nobody, stderr=subprocess.PIPE, cwd=ROOT, timeout=120
        )
    assert (ran.returncode, ran.stderr) == (141, b"")


def test_a_full_stderr_hides_no_status(home):
    assert call(["history", "--reason", "none"], "2>/dev/full").returncode == 2


def shown_on_a_terminal(words):
    """Return what a command writes to a terminal that is its stdout and stderr."""
    master, terminal = pty.openpty()
    with subprocess.Popen([*PROGRAM, *words], stdout=terminal, stderr=terminal, cwd=ROOT):
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(master, 4096)
            except OSError:  # EIO: nobody has the terminal any more
                break
    os.close(master)
    return shown.decode()


@pytest.mark.parametrize("show", [shown_on_a_terminal, lambda words: call(words).stdout])
def test_a_repository_cannot_reach_the_terminal(show, home):
    config = home / ".mcp.json"
    comment = "\x1b]0;owned\x07 \u202e \x9b2J"
    config.write_text(
        '{"mcpServers": {"a": {"command": "x", "env": {"C": "%s"}}}}\r\n' % comment  # noqa: UP031
    )
    for words in (["wrap", "--dry-run", str(config)], ["wrap", str(config)]):
        shown = show(words).replace("\r\n", "\n")
        assert not set("\x1b\x07\u202e\x9b\r") & set(shown), repr(shown)


def test_errors_cannot_reach_the_terminal_either(home):
    for words in (["run", "--", "no\x1b[31m\nsuch"], ["st\x1b[31m\nop"], ["run", "--x\x1b[31m"]):
        ran = call(words)
        assert ran.returncode in (2, 125, 127)
        assert "\x1b" not in ran.stderr
        assert ran.stderr.count("\n") == 1
