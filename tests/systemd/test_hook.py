"""`scopekeeper hook`: what a client leaves ends with it, or with its session, and nothing else."""

import json
import os
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import client_standin
from tests.machine import (
    PROGRAM,
    Scopekeeper,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    processes,
    record_of,
    text_of,
)

from .guard import Keeper

pytestmark = pytest.mark.systemd

STUBBORN = ("sh", "-c", "trap '' HUP INT; setsid sleep infinity & sleep infinity & wait")
"""A server that ignores the end of its stdin, with a helper in a session of its own."""
EVENTS = {
    "claude": "SessionEnd", "codex": "SessionEnd", "copilot": "sessionEnd", "gemini": "SessionEnd",
    "hermes": "on_session_finalize",
}  # fmt: skip
NAMED = {"codex": "CODEX_SESSION_ID", "copilot": "COPILOT_AGENT_SESSION_ID"}
GOES_ON = {"codex": {"reason": "other"}, "copilot": {"reason": "user_exit"}}


class Server:
    """A member that a client has started, with a helper."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        eventually(lambda: "SCOPEKEEPER_MEMBER" in environment_of(pid))
        self.place = directory_of(pid)
        eventually(lambda: self.living == 3)

    @property
    def living(self) -> int:
        return len(processes(self.place))

    @property
    def session(self) -> str:
        return record_of(os.path.dirname(self.place))["SESSION"]


class Client:
    """A stand-in of a client's name; at its end it ends none of its servers."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self.folder, self.name = folder, name
        program = folder / name
        program.write_text(f"#!{sys.executable} -IS\n{Path(client_standin.__file__).read_text()}")
        program.chmod(0o755)
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, *words: str, own: bool = False, **variables: str) -> int:
        assert self.process.stdin
        assert self.process.stdout
        asked = {"words": words, "variables": variables, "own": own}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def server(self, *options: str, **variables: str) -> Server:
        return Server(self.start(PROGRAM, "run", *options, "--", *STUBBORN, **variables))

    def in_session(self, session: str, *options: str) -> Server:
        """Start a server in a session of the client's own."""
        return self.server(*options, **{NAMED[self.name]: session})

    def begin_hook(self, times: int = 1, then: str = "", **fields: str) -> int:
        """Call the hook at the end of a session, once or at once; return the pid of its shell."""
        event = {"hook_event_name": EVENTS[self.name], "cwd": str(self.folder), **fields}
        (self.folder / "event").write_text(json.dumps(event))
        words = [PROGRAM, "hook", self.name, EVENTS[self.name]]
        call = f"{shlex.join(words)} < {self.folder}/event > {self.folder}/printed 2>&1"
        several = f"for n in $(seq {times}); do {{ {call}; echo $? >> {self.folder}/done; }} & done"
        line = f"{several}; wait; {then or ':'}"
        pid = str(self.process.pid)
        return self.start("/bin/sh", "-c", line, own=True, CLAUDECODE="1", CLAUDE_PID=pid)

    def end_session(self, times: int = 1, **fields: str) -> None:
        """Call the hook, and wait until it has returned."""
        (self.folder / "done").unlink(missing_ok=True)
        self.begin_hook(times, **fields)
        eventually(lambda: text_of(self.folder / "done") == "0\n" * times)
        assert text_of(self.folder / "printed") == ""

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def client(keeper: Scopekeeper, tmp_path: Path) -> Iterator[Callable[[str], Client]]:
    """Provide a function that starts a client; no keeper runs."""
    assert keeper
    started: list[Client] = []

    def start(name: str) -> Client:
        started.append(Client(tmp_path / f"client {len(started)}".replace(" ", "-"), name))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.mark.parametrize("name", EVENTS)
def test_what_a_client_leaves_ends_with_it_and_not_that_of_another_process(
    client: Callable[[str], Client], name: str
) -> None:
    ending, other = client(name), client(name)
    left, stays = [ending.server("-n", each) for each in ("one", "two")], other.server()
    ending.end_session(session_id=str(uuid.uuid4()), reason="exit")
    assert [each.living for each in left] == [3, 3]
    ending.end()
    eventually(lambda: not any(each.living for each in left))
    assert stays.living == 3


@pytest.mark.parametrize("name", ["claude", "gemini"])
def test_after_clear_nothing_is_ended_even_if_the_client_is_killed_then(
    client: Callable[[str], Client], name: str
) -> None:
    """The next client's end is the sign that a stop would have happened by now."""
    cleared, later = client(name), client(name)
    stays, left = cleared.server(), later.server()
    cleared.end_session(reason="clear")
    cleared.end()
    later.end_session(reason="exit")
    later.end()
    eventually(lambda: left.living == 0)
    assert stays.living == 3


@pytest.mark.parametrize("name", NAMED)
def test_a_client_that_goes_on_loses_only_the_session_that_has_ended(
    client: Callable[[str], Client], session: str, name: str
) -> None:
    """Another session stays, the same one of another process, and what outlives its client."""
    ended, living = str(uuid.uuid4()), str(uuid.uuid4())
    going_on, other = client(name), client(name)
    gone = going_on.in_session(ended)
    stay = [
        going_on.in_session(living), other.in_session(ended), going_on.server("-s", session),
        going_on.in_session(ended, "--lifetime", "session"),
    ]  # fmt: skip
    assert (gone.session, stay[1].session) == (f"{name}:{ended}",) * 2
    key = {"codex": "session_id", "copilot": "sessionId"}[name]
    going_on.end_session(**{key: ended}, **GOES_ON[name])
    resumed = going_on.in_session(ended, "-n", "resumed")
    eventually(lambda: gone.living == 0)
    assert [each.living for each in (*stay, resumed)] == [3] * 5
    assert is_alive(going_on.process.pid)
    going_on.end()
    eventually(lambda: not any(each.living for each in (stay[0], stay[2], resumed)))
    assert [stay[1].living, stay[3].living] == [3, 3]


def test_what_has_only_the_label_of_a_session_stays_until_the_client_ends(
    client: Callable[[str], Client], keeper: Scopekeeper
) -> None:
    """Servers of other sessions of the client may be in that scope, too.

    Two more sessions that end, one after the other, are the sign that a stop would have happened.
    """
    labels, later = client("codex"), client("codex")
    ended = str(uuid.uuid4())
    stays = labels.server()
    done = keeper.call("label", "-s", stays.session, "--as", f"codex:{ended}")
    assert done.returncode == 0, done.stderr
    labels.end_session(session_id=ended, reason="other")
    for other in (str(uuid.uuid4()), str(uuid.uuid4())):
        gone = later.in_session(other)
        later.end_session(session_id=other, reason="other")
        eventually(lambda gone=gone: gone.living == 0)
    assert stays.living == 3
    labels.end()
    eventually(lambda: stays.living == 0)


def test_an_id_that_is_none_stops_nothing_while_the_client_lives(
    client: Callable[[str], Client],
) -> None:
    """The end of the next session is the sign that a stop would have happened by now."""
    one, later = client("codex"), client("codex")
    ended = str(uuid.uuid4())
    stays, gone = one.in_session(ended), later.in_session(ended)
    for session_id in ("", "*", f"{ended}\n", f"../{ended}"):
        one.end_session(session_id=session_id, reason="other")
    later.end_session(session_id=ended, reason="other")
    eventually(lambda: gone.living == 0)
    assert stays.living == 3


def ends(keeper: Scopekeeper, session: str) -> list[dict[str, object]]:
    """Wait until the history has ends of a session, and return them."""

    def look() -> list[dict[str, object]]:
        done = keeper.call("history", "-s", session, "--json")
        assert done.returncode == 0, done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)["ends"]
        return found

    return eventually(look)


def test_three_hooks_at_once_are_one_end(
    keeper: Scopekeeper,
    client: Callable[[str], Client],
    session: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    one = client("gemini")
    left = one.server("-s", session)
    one.end_session(times=3, reason="exit")
    one.end()
    eventually(lambda: left.living == 0)
    (row,) = ends(keeper, session)
    assert row["reason"] == "owner gone"


def test_a_client_that_kills_its_hook_loses_nothing_of_it(
    client: Callable[[str], Client],
) -> None:
    """As Claude Code does it after 1.5 s, to a hook in a session of its own."""
    one = client("claude")
    left = one.server()
    hook = one.begin_hook(then="exec sleep 1000", reason="other")
    eventually(lambda: text_of(one.folder / "done") == "0\n")
    os.killpg(hook, signal.SIGKILL)
    one.end()
    eventually(lambda: left.living == 0)


def test_beside_a_keeper_it_is_one_end(
    guard: Keeper, client: Callable[[str], Client], session: str
) -> None:
    guard.start()
    one, other = client("claude"), client("claude")
    left, stays = one.server("-s", session), other.server()
    one.end_session(reason="other")
    one.end()
    eventually(lambda: left.living == 0)
    (row,) = guard.ends(session)
    assert row["reason"] == "owner gone"
    assert stays.living == 3


def test_a_hook_in_a_scope_of_its_client_ends_the_others(
    client: Callable[[str], Client], session: str
) -> None:
    """A launcher may contain hooks too: the process that is left behind is in such a scope."""
    one = client("claude")
    left = one.server("-s", session, "-n", "server")
    words = shlex.join([PROGRAM, "run", "-s", session, "-n", "hook", "--", PROGRAM, "hook",
                        "claude", "SessionEnd"])  # fmt: skip
    one.start("/bin/sh", "-c", f"{words} < /dev/null; echo > {one.folder}/done", own=True,
              CLAUDE_PID=str(one.process.pid))  # fmt: skip
    eventually((one.folder / "done").exists)
    one.end()
    eventually(lambda: left.living == 0)


def test_unknown_words_are_in_the_journal_and_nowhere_else(keeper: Scopekeeper) -> None:
    word = f"mars-{uuid.uuid4().hex[:8]}"
    done = keeper.call("hook", word, "SessionEnd")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    journal = ["journalctl", "--quiet", "--output=cat", "--since=-5min", "-t", "scopekeeper"]

    def line() -> str:
        done = subprocess.run(journal, capture_output=True, text=True)
        return next((each for each in done.stdout.splitlines() if word in each), "")

    known = "claude, codex, copilot, gemini, hermes"
    assert eventually(line) == f"hook {word} SessionEnd: no such client; known: {known}"
