"""Runs where there is no systemd: the same commands, with a keeper that ``exec`` starts."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.machine import PATIENCE, PROGRAM, eventually, is_alive
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
    told: list[dict[str, object]] = json.loads(done.stdout)["runs"]
    status = told[-1]["status"]
    assert done.returncode == (125 if status is None else status), done.stderr
    return told


def logged(container: Container, run: str) -> str:
    return str(container.call("logs", "--text", run).stdout)


def is_on_record(run: str) -> bool:
    """Tell whether a keeper has written down that a run lives."""
    path = f"file:{os.environ['SCOPEKEEPER_STATE']}/history.db?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(path, uri=True)) as history:
            query = "SELECT 1 FROM living WHERE run = CAST(? AS TEXT)"
            return history.execute(query, [run.encode()]).fetchone() is not None
    except sqlite3.OperationalError:
        return False  # it is yet to be made


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
    assert end["ended"] - end["started"] < 5, "that nobody reaps it yet is no life"
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
    done = container.call("wait", "--timeout", "60s", run)
    assert (done.returncode, done.stderr) == (7, "")
    eventually(lambda: "exited with status 7" in container.call("why", run).stdout)


def test_others_can_look_type_and_end_its_input(
    container: Container, session: str, at: Callable[..., Terminal]
) -> None:
    first = at("exec", "-s", session, "--cols", "70", "--rows", "9", "--", "sh", "-c",
               f"stty size; {LISTENS}; echo over")  # fmt: skip
    first.expect("9 70")
    first.expect("ready")
    first.type(DETACH)
    run = first.expect(r"detached from ([0-9a-f]{8})")[1]
    assert first.status() == 0
    follower = container.popen(container.words(PROGRAM, "logs", "-f", run), stdout=subprocess.PIPE)
    second, third = at("attach", run), at("attach", "--read-only", run)
    for terminal in (second, third):
        terminal.expect("ready")
    assert container.call("wait", "--timeout", "100ms", run).returncode == 124
    second.type("one\n")
    third.expect("got one")
    assert container.call("send", run, "two", "--enter").returncode == 0
    second.expect("got two")
    assert container.call("send", run, "--eof").returncode == 0
    for terminal in (second, third):
        terminal.expect("over")
        terminal.expect("ended: exited, status 0")
        assert terminal.status() == 0
    assert follower.communicate(timeout=PATIENCE)[0].endswith(b"got two\r\nover\r\n")


def test_it_is_listed_stopped_and_told_of(container: Container, session: str) -> None:
    run = begin(container, session, "-n", "long", "--", "sh", "-c", "echo words; sleep 1000 & wait")
    pids = eventually(lambda: len(found := container.of_run(run)) == 2 and found)
    (listed,) = container.scopes("-s", session)
    assert (listed["run"], listed["kind"], listed["processes"]) == (run, "pty", 2)
    assert "long (m-long." in container.call("why", run).stdout
    (keeper,) = container.keepers()
    done = container.call("stop", "-s", session)
    assert (done.returncode, ".scope: gone after" in done.stdout) == (0, True), done.stderr
    assert not any(map(is_alive, pids))
    (told,) = ended(container, run)
    assert (told["reason"], told["status"]) == ("stopped by request", 143)
    told_of = container.call("why", run).stdout
    assert "long" in told_of
    assert "was stopped by request" in told_of
    history = container.call("history", "-s", session).stdout
    assert history.count("stopped by request") == 1
    assert container.keepers() == [keeper], "it is in no scope"
    assert container.scopes() == []


@pytest.mark.parametrize("option", ["--timeout", "--no-output-timeout"])
def test_one_that_takes_too_long_is_warned_of_and_ended(
    container: Container, session: str, option: str
) -> None:
    run = begin(container, session, option, "1s", "--", "sh", "-c", "echo words; sleep 1000")
    (told,) = ended(container, run)
    assert told["reason"] == ("ttl" if option == "--timeout" else "no output")
    assert f"{run} (sh of {session}) will be ended in" in container.log


def test_a_killed_keeper_takes_the_terminals_and_the_next_one_tells_so(
    container: Container, session: str, at: Callable[..., Terminal]
) -> None:
    lasting = begin(container, session, "--no-output-timeout", "2s", "--", "sh", "-c", TALKS)
    plain = begin(container, session, "--", "sh", "-c", "echo words; exec sleep 1000")
    eventually(lambda: "ready" in logged(container, lasting))
    eventually(lambda: "words" in logged(container, plain))
    attached = at("exec", "-s", session, "--", "sh", "-c", "echo ready; exec sleep 1000")
    attached.expect("ready")
    follower = container.popen(container.words(PROGRAM, "logs", "-f", plain),
                               stdout=subprocess.PIPE)  # fmt: skip
    waiter = container.popen(container.words(PROGRAM, "wait", plain))
    assert follower.stdout.readline() == b"words\r\n"
    (victim,) = eventually(lambda: container.of_run(plain))
    survivor = eventually(lambda: container.of_run(lasting))[0]
    (keeper,) = container.keepers()
    eventually(lambda: is_on_record(plain))  # so that the next keeper misses it at once
    os.kill(keeper, signal.SIGKILL)
    # their clients have another keeper started, which finds out
    attached.expect("ended: signalled, SIGHUP")
    assert attached.status() == 128 + signal.SIGHUP
    assert waiter.wait(PATIENCE) == 125
    assert follower.communicate(timeout=PATIENCE) == (b"", None)
    assert not is_alive(victim)
    eventually(lambda: len(container.keepers()) == 1 and container.keepers() != [keeper])
    (told,) = ended(container, plain)
    assert told["reason"] == "unknown", "nobody has seen it"
    assert "went with the keeper" in str(told["evidence"])
    eventually(lambda: "went with the keeper" in container.call("why", plain).stdout)
    # what does not mind goes on, and is neither lost from view nor said to be silent
    words = ("--no-output-timeout", "500ms", "--", "sleep", "99")
    silent = begin(container, f"{session}:silent", *words)
    assert ended(container, silent)[0]["reason"] == "no output"
    back = at("attach", lasting)
    back.expect(
        r"its terminal with it: no more output comes; waiting for its end, ctrl-\\ detaches"
    )
    gone = at("attach", lasting)
    gone.expect("detaches")
    gone.type(DETACH)
    assert gone.status() == 0
    follower = container.popen(container.words(PROGRAM, "logs", "-f", lasting),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    said = f"scopekeeper: the keeper of {lasting} has ended, and its terminal with it: no more "
    assert follower.stderr.readline().decode().startswith(said)
    sent = container.call("send", lasting, "x")
    assert (sent.returncode, "takes no input any more" in sent.stderr) == (1, True)
    assert is_alive(survivor)
    assert [each["run"] for each in container.scopes("--state", "running")] == [lasting]
    assert container.call("stop", "-s", session).returncode == 0
    back.expect("ended: stopped by request")
    assert follower.wait(PATIENCE) == 0
    assert ended(container, lasting)[0]["reason"] == "stopped by request"


def test_what_ended_with_the_keeper_is_not_lost_while_there_is_none(
    container: Container, session: str
) -> None:
    run = begin(container, session, "--", "sleep", "1000")
    (pid,) = eventually(lambda: container.of_run(run))
    os.kill(container.keepers()[0], signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    assert [each["state"] for each in container.scopes("-s", session)] == ["empty"]
    assert f"`scopekeeper wait {run}`" in container.call("why", run).stdout
    assert container.keepers() == [], "who only looks starts none"
    assert container.call("logs", "-f", run).returncode == 0, "but who waits for the end does"
    assert ended(container, run)[0]["reason"] == "unknown"
    said = container.call("wait", run).stderr
    assert f"{run} ended without a known status: it ended, and only its parent knows how" in said
    rows = [line for line in container.call("ls", "-a").stdout.splitlines() if run in line]
    assert len(rows) == 1, rows
    assert "ended" in rows[0].split()
    assert "for an unknown reason" in container.call("why", run).stdout
    eventually(lambda: "≤" in container.call("history", "-s", session).stdout)
