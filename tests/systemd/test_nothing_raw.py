"""Names, command lines and output that control a terminal are shown by no command but as text.

``attach`` and ``logs --raw`` alone pass on what a run writes: other tests have that.
"""

import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    Scopekeeper,
    eventually,
    rewrite_record,
    scope_directory,
)

from .guard import Keeper
from .test_exec import begin
from .test_hosts import IS_THERE, Fleet

pytestmark = pytest.mark.systemd

EVIL = "\x1b[2J\x1b]0;evil\x07\r\n\x9b31m\u202e\u2066\u200f\x7f\x08"
"""Clears the screen, sets a title, makes a line, colours, and turns the direction of writing."""
COMM = "\x1b[31m\r\x07\u202ee"
OWNER = f"""
import ctypes, signal, sys
ctypes.CDLL(None).prctl(15, {COMM.encode()!r}, 0, 0, 0)
print("ready", flush=True)
signal.pause()
"""
MEMBER = f"""
import ctypes, os, signal, socket
ctypes.CDLL(None).prctl(15, {COMM.encode()!r}, 0, 0, 0)
waiting = socket.socket(socket.AF_UNIX)
waiting.bind("\\0" + {EVIL!r} + str(os.getpid()))
waiting.listen()
port = socket.create_server(("127.0.0.1", 0))
print("ready", flush=True)
signal.pause()
"""
LISTS = (
    ("ls",), ("ls", "--members"), ("ls", "--tree"), ("ls", "--escaped"), ("ls", "--all"),
    ("ls", "--json"), ("ls", "--compare"), ("ps",), ("ps", "--json"), ("ports",),
    ("ports", "--json"), ("metrics",), ("metrics", "--format", "text"), ("status",),
    ("reconcile", "--dry-run"), ("reconcile", "--dry-run", "--json"), ("history",),
    ("history", "--json"), ("history", "--by", "session"), ("history", "--by", "name"),
    ("history", "--by", "lane"), ("history", "--by", "reason"), ("own", "--list"),
    ("own", "--list", "--json"), ("doctor",), ("stop", "--dry-run", "--state", "running"),
    ("report", "-"),
)  # fmt: skip
ON_HOSTS = (
    ("ls",), ("ls", "--members"), ("ls", "--tree"), ("ps",), ("ports",), ("history",),
    ("history", "--by", "session"), ("reconcile", "--dry-run"), ("doctor",),
    ("stop", "--dry-run", "--state", "running"),
)  # fmt: skip


def controls(text: str) -> list[str]:
    """Return the characters of a text that control a terminal or the direction of writing."""
    return [
        char
        for char in text
        if (unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs") and char not in "\n\t")
    ]


def printed(*words: str, terminal: bool = False, interrupted: float = 0) -> str:
    """Return all that a command writes, to a pipe or to a terminal, without a terminal's ends."""
    argv = [PROGRAM, *words]
    if terminal:
        limit = ["timeout", "--foreground", "-s", "INT", str(interrupted)] if interrupted else []
        script = 'stty cols 80; exec "$@"'
        # script passes on a command line: the words are its environment's
        line = " ".join(f'"$W{at}"' for at in range(len(limit + argv)))
        variables = {f"W{at}": word for at, word in enumerate(limit + argv)}
        argv = ["script", "-qec", f"set -- {line}; {script}", "/dev/null"]
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
            env={**os.environ, **variables, "NO_COLOR": "1", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    else:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    text = (done.stdout + done.stderr).decode("utf-8", "surrogateescape")
    assert "Traceback" not in text, text
    return text.replace("\r\n", "\n")


@pytest.fixture
def evil(guard: Keeper, keeper: Scopekeeper, session: str, tmp_path: Path) -> str:
    """Have all of it running and ended: a member, an orphan, a label, an owned path, an escape."""
    guard.start()
    name = f"{session}{EVIL}"
    owner = keeper.popen([sys.executable, "-c", OWNER, EVIL], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    turn = tmp_path / f"turn{EVIL}"
    turn.mkdir()
    words = ("-s", name, "-l", f"lane{EVIL}", "--run", f"run{EVIL}", "--session-id", f"id{EVIL}")
    for member in ("one", "two"):
        made = keeper.start(
            *words, "-n", member + EVIL, "--owner", str(owner.pid), "--own", str(turn), "--",
            sys.executable, "-c", MEMBER, EVIL, stdout=subprocess.PIPE, cwd=turn,
        )  # fmt: skip
        assert made.stdout is not None
        assert made.stdout.readline() == b"ready\n"
    assert keeper.call("label", "-s", name, "--as", f"label{EVIL}").returncode == 0
    left = {
        "SCOPEKEEPER_MEMBER": f"{EVIL}.scope/m-x.01234567", "SCOPEKEEPER_SCOPE": EVIL,
    }  # fmt: skip
    keeper.popen([sys.executable, "-c", OWNER, EVIL], env={**os.environ, **left},
                 stdout=subprocess.DEVNULL)  # fmt: skip
    stopped = keeper.call("stop", "-s", name, "-n", "two" + EVIL, "--note", f"note{EVIL}")
    assert stopped.returncode == 0, stopped.stderr
    assert not controls(stopped.stdout + stopped.stderr)
    begin(keeper, name, "--", "sh", "-c", 'printf "%s\\n" "$1"; exec sleep 1000', EVIL, EVIL)
    liar = keeper.member("-s", f"{session}:liar", "-n", "liar", "--", *FOREVER)
    assert liar.pid
    scope = scope_directory(f"{session}:liar")
    rewrite_record(scope, OWNER_NAME=COMM.replace("\r", ""), LABEL="\x1b[2J", LANE="\x1b[2J\u202e")
    return name


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_no_list_has_anything_that_controls_a_terminal(
    keeper: Scopekeeper, session: str, evil: str, terminal: bool, tmp_path: Path
) -> None:
    shown = 0
    word = evil.replace("\r", "").replace("\n", "")
    page = tmp_path / "page.html"
    for words in (
        *LISTS, ("why", evil), ("why", "-s", evil), ("why", "--json", evil), ("why", word),
        ("stop", word), ("logs", EVIL), ("attach", EVIL), ("send", EVIL, "x"), ("wait", EVIL),
        ("ls", EVIL), ("ls", "--where", f"x{EVIL}=1"), ("ls", "--sort", EVIL), ("ps", EVIL),
        ("history", "--reason", EVIL), ("label", "-s", EVIL, "--as", EVIL), ("adopt", "-s", EVIL),
        ("disown", EVIL), ("own", "-s", EVIL, f"/{EVIL}"), ("policy", "show", EVIL), (EVIL,),
        ("run", "-s", "x", "--", f"/{EVIL}"), ("run", f"--{EVIL}"), ("report", str(page)),
        ("wrap", f"/{EVIL}"), ("ls", "-H", EVIL), ("exec", "-s", "x", "--", f"/{EVIL}"),
    ):  # fmt: skip
        text = printed(*words, terminal=terminal)
        assert not controls(text), (words, controls(text), text)
        shown += "\\x1b" in text
    assert shown > 15, "it was to be shown as text"
    assert not controls(page.read_text())
    watched = printed("watch", terminal=True, interrupted=3)
    assert not controls(watched.replace("^C", ""))
    journal = subprocess.run(
        ["journalctl", "-q", "-o", "cat", "--all", *([] if os.geteuid() == 0 else ["--user"]),
         "-u" if os.geteuid() == 0 else "--user-unit", "scopekeeper-keeper-test.service"],
        capture_output=True,
    ).stdout.decode("utf-8", "surrogateescape")  # fmt: skip
    assert not controls(journal)


def test_the_text_of_a_run_has_none(keeper: Scopekeeper, guard: Keeper, session: str) -> None:
    guard.start()
    run = begin(keeper, session, "--", "sh", "-c", 'printf "%s\\n" "$1"; echo over', "sh", EVIL)
    eventually(lambda: "over" in printed("logs", "--text", run))
    for terminal in (False, True):
        assert not controls(printed("logs", "--text", run, terminal=terminal))


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Have other hosts, which are all this one."""
    made = Fleet(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    yield made
    made.close()


@pytest.mark.skipif(not IS_THERE, reason="there is no ssh, or no server for it")
def test_no_answer_of_another_host_has_any(
    keeper: Scopekeeper,
    session: str,
    evil: str,
    fleet: Fleet,
) -> None:
    shown = 0
    for words in (*ON_HOSTS, ("why", evil), ("why", EVIL)):
        for terminal in (False, True):
            text = printed(*words, "-H", "one", "-H", "down", terminal=terminal)
            assert not controls(text), (words, controls(text), text)
            shown += "\\x1b" in text
    assert shown > 5
