"""Hooks that a real client runs: without a keeper, they name its session and end what it leaves."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.census import Process, words_of
from tests.machine import PROGRAM, eventually, record_of

from .client import Client
from .ends import ENDS
from .hooked import ByLine, ClaudeByLine, CodexWithDaemon, Hooked
from .life import Life, Prompt, Screen
from .model import Model
from .test_ends import check_that_it_is_contained, check_that_it_works, is_contained
from .test_sessions import alive, sessions_of

pytestmark = [
    pytest.mark.openclaw,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("way", ["hooked"], indirect=True, scope="session"),
]
of_claude = pytest.mark.parametrize("client", ["claude"], indirect=True, scope="session")
of_codex = pytest.mark.parametrize("client", ["codex"], indirect=True, scope="session")

At = Callable[[type[Hooked], Client], Hooked]


@pytest.fixture
def at(way: str, model: Model) -> Iterator[At]:
    """Return a function that makes a desk."""
    made: list[Hooked] = []

    def make(kind: type[Hooked], client: Client) -> Hooked:
        made.append(kind(client, model))
        return made[-1]

    yield make
    for each in made:
        each.remove()
    assert way


def left_of(life: Life) -> list[Process]:
    """Return what was contained and lives ten seconds after the end of the client."""
    return [each for each in life.left() if is_contained(life.desk.client, each.kind)]


def check_that_each_end_is_one(life: Life) -> None:
    """A hook that ran, or ran several times, is one end for each member in the journal."""
    client, desk = life.desk.client, life.desk
    eventually(lambda: not hooks_run(client, "SessionEnd"))
    names = {client.session_name(each) for each in client.sessions(desk.place)}

    def ends() -> list[dict[str, str]]:
        found = [each for name in names for each in journal(f"SCOPEKEEPER_SESSION={name}")]
        return [each for each in found if "SCOPEKEEPER_MEMBER" in each]

    entries = eventually(ends)  # the journal takes a moment to be written
    members = Counter(
        (entry["SCOPEKEEPER_SCOPE"], entry["SCOPEKEEPER_MEMBER"]) for entry in entries
    )
    assert set(members.values()) == {1}, entries
    assert "owner gone" in {entry["SCOPEKEEPER_REASON"] for entry in entries}


def hooks_run(client: Client, event: str) -> bool:
    """Return True if a process that a hook of a client has left behind still runs."""
    pids = [int(each) for each in os.listdir("/proc") if each.isdecimal()]
    return any(words_of(pid)[-2:] == [client.name, event] for pid in pids)


def journal(*matches: str) -> list[dict[str, str]]:
    done = subprocess.run(
        ["journalctl", "--user", "--quiet", "--output=json", *matches],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


@of_claude
@pytest.mark.parametrize("end", ["tui-left", "tui-SIGTERM", "tui-closed"])
def test_hooks_of_claude_end_what_it_leaves(client: Client, at: At, end: str) -> None:
    desk = at(Hooked, client)
    life = ENDS[end].begin(desk)
    try:
        check_that_it_works(life)
        check_that_it_is_contained(life)
        ENDS[end].act(life)
        assert left_of(life) == []
        assert desk.ends >= 1
        check_that_each_end_is_one(life)
    finally:
        life.close()


@of_claude
def test_hooks_of_claude_end_nothing_after_clear_and_all_later(client: Client, at: At) -> None:
    desk = at(Hooked, client)
    life = Screen(desk, background=True)
    try:
        first = life.seen
        life.begin_anew()
        assert desk.ends >= 1
        assert alive(first) == set(first)
        assert len(client.sessions(desk.place)) == 2
        ENDS["tui-SIGHUP"].act(life)
        assert left_of(life) == []
        check_that_each_end_is_one(life)
    finally:
        life.close()


@of_claude
def test_the_line_and_the_plugin_of_claude_contain_and_end_all(client: Client, at: At) -> None:
    """Also a server that a plugin brings; no file of servers was rewritten."""
    assert client
    desk = at(ByLine, ClaudeByLine())
    life = Screen(desk, background=True)
    try:
        check_that_it_works(life)
        check_that_it_is_contained(life)
        ENDS["tui-left"].act(life)
        assert left_of(life) == []
        assert desk.ends >= 1
        check_that_each_end_is_one(life)
    finally:
        life.close()


def labels_of(life: Life) -> set[str]:
    """Return the labels of the scopes that servers are in."""
    servers = [each for each in life.seen if each.kind == "server"]
    return {record_of(each.scope).get("LABEL", "") for each in servers}


def check_that_it_is_shown(label: str) -> None:
    """The list has the label instead of the session, and as the title the first prompt."""
    scopes = json.loads(subprocess.check_output([PROGRAM, "ls", label, "--json"]))["scopes"]
    assert [each["label"] for each in scopes] == [label]
    assert str(scopes[0]["title"]).startswith("call: mcp__stub/ping")
    shown = subprocess.check_output([PROGRAM, "ls", label], text=True).splitlines()
    assert shown[1].startswith(f"{label} ")


@of_codex
def test_hooks_of_codex_name_and_end_the_session_of_a_prompt(client: Client, at: At) -> None:
    desk = at(Hooked, client)
    life = Prompt(desk, background=False)
    try:
        check_that_it_works(life)
        (identifier,) = client.sessions(desk.place)
        label = client.session_name(identifier)
        eventually(lambda: labels_of(life) == {label})
        assert sessions_of(life) == {f"codex-{life.pid}"}
        check_that_it_is_shown(label)
        ENDS["finished"].act(life)
        assert left_of(life) == []
        assert desk.ends == 1
    finally:
        life.close()


@of_codex
def test_hooks_of_codex_follow_a_new_session_at_its_terminal(client: Client, at: At) -> None:
    desk = at(Hooked, client)
    life = Screen(desk, background=True)
    try:
        check_that_it_works(life)
        (first,) = client.sessions(desk.place)
        eventually(lambda: labels_of(life) == {client.session_name(first)})
        life.begin_anew()
        (second,) = client.sessions(desk.place) - {first}
        eventually(lambda: labels_of(life) == {client.session_name(second)})
        ENDS["tui-left"].act(life)
        assert left_of(life) == []
        assert desk.ends >= 1
    finally:
        life.close()


@of_codex
def test_the_daemon_of_codex_has_no_label(client: Client, at: At) -> None:
    """Its servers may be those of several sessions at its terminals."""
    assert client
    desk = at(Hooked, CodexWithDaemon())
    life = Screen(desk, background=False)
    try:
        check_that_it_works(life)
        assert sessions_of(life) != {f"codex-{life.pid}"}
        eventually(lambda: desk.starts == 1 and not hooks_run(client, "SessionStart"))
        assert labels_of(life) == {""}
    finally:
        life.close()
