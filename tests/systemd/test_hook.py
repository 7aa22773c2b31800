"""`scopekeeper hook`: what a client leaves ends with it, or with its session, and nothing else.

At the start of a session it labels what the client has started without an id of the session.
"""

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

from scopekeeper.lifecycle import label
from scopekeeper.scope.selection import Selector, select
from scopekeeper.scope.snapshot import Reader
from tests import client_standin
from tests.machine import (
    MOUNT,
    PROGRAM,
    Scopekeeper,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    processes,
    record_of,
    rewrite_record,
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
STARTS = {"codex": "SessionStart", "gemini": "SessionStart", "hermes": "on_session_start"}
"""Of clients whose servers have no id of the session."""
SHARED = {"codex": ("app-server", "--listen", "unix://"), "gemini": ("--acp",)}
"""Arguments of a process that has several sessions at a time."""
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

    @property
    def label(self) -> str:
        return record_of(os.path.dirname(self.place)).get("LABEL", "")


class Client:
    """A stand-in of a client's name; at its end it ends none of its servers."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        folder.mkdir()
        self.folder, self.name = folder, name
        program = folder / name
        program.write_text(f"#!{sys.executable} -IS\n{Path(client_standin.__file__).read_text()}")
        program.chmod(0o755)
        self.process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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

    def begin_hook(self, times: int = 1, then: str = "", event: str = "", **fields: str) -> int:
        """Call the hook at the end of a session, once or at once; return the pid of its shell.

        event is another one than the end.
        """
        event = event or EVENTS[self.name]
        content = {"hook_event_name": event, "cwd": str(self.folder), **fields}
        (self.folder / "event").write_text(json.dumps(content))
        words = [PROGRAM, "hook", self.name, event]
        call = f"{shlex.join(words)} < {self.folder}/event > {self.folder}/printed 2>&1"
        several = f"for n in $(seq {times}); do {{ {call}; echo $? >> {self.folder}/done; }} & done"
        line = f"{several}; wait; {then or ':'}"
        pid = str(self.process.pid)
        return self.start("/bin/sh", "-c", line, own=True, CLAUDECODE="1", CLAUDE_PID=pid)

    def begin_session(self, session_id: str, **fields: str) -> None:
        """Call the hook at the start of a session, and wait until it has returned."""
        self.end_session(event=STARTS[self.name], session_id=session_id, **fields)

    def end_session(self, times: int = 1, event: str = "", **fields: str) -> None:
        """Call the hook, and wait until it has returned."""
        (self.folder / "done").unlink(missing_ok=True)
        self.begin_hook(times, event=event, **fields)
        eventually(lambda: text_of(self.folder / "done") == "0\n" * times)
        assert text_of(self.folder / "printed") == ""

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def client(keeper: Scopekeeper, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Provide a function that starts a client; no keeper runs."""
    assert keeper
    started: list[Client] = []

    def start(name: str, *arguments: str) -> Client:
        started.append(Client(tmp_path / f"client-{len(started)}", name, *arguments))
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


def test_the_session_that_has_ended_is_stopped_where_it_is_no_label(
    client: Callable[[str], Client],
) -> None:
    """A command of the session is in a scope of that name; the servers have it as their label."""
    one, ended = client("codex"), str(uuid.uuid4())
    server, command = one.server(), one.in_session(ended)
    one.begin_session(ended)
    eventually(lambda: server.label == command.session == f"codex:{ended}")
    one.end_session(session_id=ended, reason="other")
    eventually(lambda: command.living == 0)
    assert server.living == 3


@pytest.mark.parametrize("name", STARTS)
def test_the_start_of_a_session_labels_what_its_client_has_started(
    client: Callable[[str], Client], keeper: Scopekeeper, session: str, name: str
) -> None:
    """Not what somebody has named, and not what another process of the client has started."""
    first, second = (str(uuid.uuid4()) for _ in range(2))
    one, other = client(name), client(name)
    server, cron = one.server(), one.server("--lane", "cron")
    named, elsewhere = one.server("-s", session), other.server()
    one.begin_session(first, source="startup")
    eventually(lambda: server.label == cron.label == f"{name}:{first}")
    later = one.server("-n", "later")
    assert later.label == f"{name}:{first}"
    assert server.session == f"{name}-{one.process.pid}"
    assert [line.split()[0] for line in keeper.call("ls", f"{name}:{first}").stdout.splitlines()] \
        == ["SESSION", f"{name}:{first}", f"{name}:{first}"]  # fmt: skip
    one.begin_session(second, source="clear")
    eventually(lambda: server.label == cron.label == f"{name}:{second}")
    assert [named.label, elsewhere.label] == ["", ""]


def test_servers_that_start_after_the_hook_are_labelled_too(
    client: Callable[[str], Client],
) -> None:
    one, identifier = client("gemini"), str(uuid.uuid4())
    one.begin_session(identifier, source="startup")
    server = one.server()
    eventually(lambda: server.label == f"gemini:{identifier}")


def begun(one: Client) -> set[str]:
    """Return the processes that hooks of a client have left behind and that still run."""
    words = f"\0hook\0{one.name}\0{STARTS[one.name]}\0"
    return {each for each in os.listdir("/proc")
            if each.isdecimal() and words in text_of(f"/proc/{each}/cmdline")}  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
def test_a_process_with_several_sessions_has_no_label(
    client: Callable[..., Client], name: str
) -> None:
    one = client(name, *SHARED[name])
    server = one.server()
    one.begin_session(str(uuid.uuid4()))
    eventually(lambda: not begun(one))
    assert server.label == ""


def test_a_label_of_somebody_else_stays(
    client: Callable[[str], Client], keeper: Scopekeeper
) -> None:
    one, later = client("codex"), client("codex")
    server, sign = one.server(), later.server()
    assert keeper.call("label", "-s", server.session, "--as", "mine").returncode == 0
    one.begin_session(str(uuid.uuid4()))
    one.end()
    later.begin_session(str(uuid.uuid4()))
    eventually(lambda: sign.label)
    eventually(lambda: not begun(one))
    assert server.label in ("mine", "")
    assert record_of(os.path.dirname(server.place)) == {} or server.label == "mine"


def test_a_hook_that_is_late_does_not_take_the_label_of_a_newer_session(
    client: Callable[[str], Client],
) -> None:
    """Two hooks wait for the first server; the order in which they then come is chance."""
    server = client("gemini").server()
    snapshot = Reader(MOUNT).snapshot(uid=os.geteuid())
    selected = select(snapshot, Selector(session=server.session))
    for moment, label_, problem, now in (
        (1000, "gemini:second", "", "gemini:second"),
        (999, "gemini:first", label.NEWER, "gemini:second"),
        (1001, "gemini:third", "", "gemini:third"),
        (0, "by-hand", "", "by-hand"),
        (1, "gemini:first", "", "gemini:first"),
    ):
        (done,) = label.label(selected, label_, moment=moment)
        assert (done.problem, server.label) == (problem, now)
    rewrite_record(os.path.dirname(server.place), LABELLED="9" * 20)
    assert label.label(selected, "gemini:second", moment=2)[0].problem == ""
    assert server.label == "gemini:second"


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
        done = subprocess.run(journal, capture_output=True)
        lines = done.stdout.decode(errors="replace").splitlines()  # names of others are any bytes
        return next((each for each in lines if word in each), "")

    known = "claude, codex, copilot, gemini, hermes"
    assert eventually(line) == f"hook {word} SessionEnd: no such client; known: {known}"
