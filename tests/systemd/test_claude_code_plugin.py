"""The plugin for Claude Code: what a client started ends with it, and nothing else does."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import scopekeeper
from tests import claude_code_standin
from tests.machine import (
    PROGRAM,
    Scopekeeper,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    processes,
)

pytestmark = pytest.mark.systemd

PLUGIN = Path(scopekeeper.__file__).parent / "clients/claude_code/plugin"
"""As it is installed."""
STUBBORN = "trap '' HUP INT; setsid sleep infinity & sleep infinity & wait"
"""A server that ignores the end of its stdin, with a helper in a session of its own."""
ENDED = {"status": 0, "printed": ""}


class Client:
    """A client with two servers, started through ``scopekeeper run`` as ``wrap`` writes it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        plugin = folder / "plugins/cache/a folder"
        shutil.copytree(PLUGIN, plugin)
        config = folder / "claude.json"
        server = {"command": PROGRAM, "args": ["run", "--", "sh", "-c", STUBBORN]}
        config.write_text(json.dumps({"mcpServers": {"one": server, "two": server}}))
        self.process = subprocess.Popen(
            [sys.executable, claude_code_standin.__file__, str(config), str(plugin)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.servers: list[int] = self._answer()
        eventually(lambda: all("SCOPEKEEPER_MEMBER" in environment_of(pid) for pid in self.servers))
        self.places = [directory_of(pid) for pid in self.servers]
        eventually(lambda: all(len(processes(place)) == 3 for place in self.places))

    def _answer(self):  # type: ignore[no-untyped-def]
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def end_session(self, reason: str) -> object:
        """Have the hook called; return how it ended."""
        assert self.process.stdin
        self.process.stdin.write(f"{reason}\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """End the client alone."""
        self.process.kill()
        self.process.communicate()

    @property
    def living(self) -> int:
        """How many processes of its servers live."""
        return sum(len(processes(place)) for place in self.places)


@pytest.fixture
def client(keeper: Scopekeeper, tmp_path: Path) -> Iterator[Callable[[], Client]]:
    """Provide a function that starts a client; no keeper runs."""
    assert keeper
    started: list[Client] = []

    def start() -> Client:
        started.append(Client(tmp_path / f"client {len(started)}"))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_only_the_servers_of_the_client_that_ends_are_ended(client: Callable[[], Client]) -> None:
    ending, other = client(), client()
    assert ending.end_session("prompt_input_exit") == ENDED
    ending.end()
    eventually(lambda: ending.living == 0)
    assert (other.living, all(map(is_alive, other.servers))) == (6, True)


def test_after_clear_nothing_is_ended_even_if_the_client_is_killed_then(
    client: Callable[[], Client],
) -> None:
    """The next client's end is the sign that a stop would have happened by now."""
    cleared, later = client(), client()
    assert cleared.end_session("clear") == ENDED
    cleared.end()
    assert later.end_session("other") == ENDED
    later.end()
    eventually(lambda: later.living == 0)
    assert cleared.living == 6


def test_while_the_client_lives_nothing_is_ended_whatever_the_reason(
    client: Callable[[], Client],
) -> None:
    going_on, ending = client(), client()
    assert going_on.end_session("resume") == ENDED
    assert ending.end_session("other") == ENDED
    ending.end()
    eventually(lambda: ending.living == 0)
    assert going_on.living == 6
    going_on.end()
    eventually(lambda: going_on.living == 0)


def test_without_scopekeeper_in_path_the_client_ends_as_before(
    client: Callable[[], Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sh", "setsid", "sleep"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path))
    alone = client()
    assert alone.end_session("other") == ENDED
    monkeypatch.undo()
    broken = tmp_path / "scopekeeper"
    broken.write_text("#!/bin/sh\necho broken; exit 1\n")
    broken.chmod(0o755)
    assert alone.end_session("other") == ENDED
