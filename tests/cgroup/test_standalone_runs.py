"""Runs where there is no systemd: the same commands, with a keeper that ``exec`` starts."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.machine import PROGRAM, eventually, is_alive
from tests.terminal import Terminal

from .container import Container

pytestmark = pytest.mark.systemd  # the lab's machine has the cgroup to delegate

DETACH = "\x1c"
LISTENS = 'stty -echo; echo ready; while read line; do echo "got $line"; done'

TALKS = "trap '' HUP; while echo ready; do sleep 0.2; done 2>/dev/null; exec sleep 1000"


def begin(container: Container, session: str, *arguments: str) -> str:
    """Start a run and leave it; returns its id."""
    done = container.call("exec", "-d", "-s", session, *arguments)
    assert done.returncode == 0, done.stderr
    return str(done.stdout.strip())


def ended(container: Container, *runs: str) -> list[dict[str, object]]:
    """Wait until runs have ended, and return how."""
    done = container.call("wait", "--json", *runs)
    told: list[dict[str, object]] = json.loads(done.stdout)
    status = told[-1]["status"]
    assert done.returncode == (125 if status is None else status), done.stderr
    return told


def logged(container: Container, run: str) -> str:
    return str(container.call("logs", "--text", run).stdout)


@pytest.fixture
def at(container: Container) -> Iterator[Callable[..., Terminal]]:
    """Give what opens a terminal with a command of ours in it, inside."""
    opened: list[Terminal] = []

    def open_one(*arguments: str) -> Terminal:
        opened.append(Terminal(container.words(PROGRAM, *arguments)))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.end()


def test_its_output_and_its_status_are_those_of_the_command(
    container: Container, session: str
) -> None:
    def run(*arguments: str, **how: object) -> tuple[int, str, str]:
        done = container.call("exec", "-s", session, *arguments, **how)
        return done.returncode, done.stdout, done.stderr

    assert run("--", "sh", "-c", "echo hello; exit 4")[:2] == (4, "hello\n")
    (end,) = eventually(lambda: json.loads(container.call("history", "--json").stdout)["ends"])
    assert end["ended"] - end["started"] < 2.5, "that nobody reaps it yet is no life"
    (keeper,) = container.keepers()
    killed = run("--", "sh", "-c", "kill -9 $$")
    assert (killed[0], killed[2]) == (137, "[sh ended: signalled, SIGKILL]\n")
    assert run("--pipe", "--", "sort", stdin=None, input="b\na\n") == (0, "a\nb\n", "")
    assert run("--", "/nonexistent") == (127, "", "scopekeeper: /nonexistent: not found\n")
    runs = [begin(container, session, "--", "sh", "-c", f"exit {each}") for each in (5, 6)]
    for _ in ("they end", "they have ended"):
        assert [each["exit_status"] for each in ended(container, *runs)] == [5, 6]
    assert container.keepers() == [keeper]


def test_a_pipe_that_ends_before_its_command_keeps_nobody_waiting(
    container: Container, session: str
) -> None:
    run = begin(container, session, "--pipe", "--", "sh", "-c", "exec >&- 2>&-; read go; exit 7")
    (pid,) = eventually(lambda: container.of_run(run))
    eventually(lambda: not {"1", "2"} & set(os.listdir(f"/proc/{pid}/fd")))
    assert container.call("send", run, "go\n").returncode == 0
    done = container.call("wait", "--timeout", "5s", run)
    assert (done.returncode, done.stderr) == (7, "")
    eventually(lambda: "exited with status 7" in container.call("why", run).stdout)
