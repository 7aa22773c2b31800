"""Nothing that one scope, one caller or one slow disk does holds up the keeper for the others."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import FOREVER, PROGRAM, Scopekeeper, eventually, scope_directory

from .bus import BUS, allowed, busctl
from .guard import Keeper

pytestmark = pytest.mark.systemd

_MEMBERS, _ANSWER_SECONDS = 20, 8.0
"""Each look at a history that another process has locked takes a second."""
_ASKING_SECONDS = 2.0
"""The keeper looks half a second after an end."""


@pytest.fixture
def on_the_bus(guard: Keeper) -> Iterator[Keeper]:
    """Give a keeper that is on the bus."""
    with allowed():
        guard.start()
        yield guard


def test_in_the_scope_that_it_ends_it_steps_out_and_goes_on(
    keeper: Scopekeeper, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    gateway = keeper.popen(list(FOREVER))
    member = ("-s", session, "--owner", str(gateway.pid), "--")
    sibling = keeper.member(*member, *FOREVER)
    inside = keeper.member(
        *member, PROGRAM, "keeper", "--no-bus", "--linger", "1s", stderr=subprocess.DEVNULL
    )
    scope = scope_directory(session)
    eventually(lambda: keeper.call("doctor").stdout.count("; learns how processes ended by"))
    gateway.kill()
    gateway.wait()
    assert sibling.wait(20) == -signal.SIGTERM
    eventually(lambda: not Path(scope).exists())
    assert inside.wait(20) == 0, "it leaves when nothing is left to keep but itself"


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Keep everybody else from reading and writing a database."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def living(database: Path) -> list[str]:
    """Return the members of which the keeper knows that they live."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as history:
            return [name for (name,) in history.execute("SELECT member_id FROM living")]
    except sqlite3.Error:
        return []  # it is only being made


def test_it_answers_while_the_history_is_locked_and_then_loses_no_end(
    on_the_bus: Keeper, keeper: Scopekeeper, session: str
) -> None:
    database = on_the_bus.state / "history.db"
    owner = ("--owner", str(os.getpid()))
    started = [
        keeper.start("-s", session, "-n", f"m{number}", *owner, "--", *FOREVER)
        for number in range(_MEMBERS)
    ]
    eventually(lambda: len(living(database)) == _MEMBERS)  # the keeper has written down who lives
    with locked(database):
        for process in started:
            process.send_signal(signal.SIGKILL)
        for process in started:
            process.wait()
        until = time.monotonic() + _ASKING_SECONDS
        while time.monotonic() < until:
            answered = busctl(f"--timeout={_ANSWER_SECONDS}", "call", *BUS, "List")
            assert answered.returncode == 0, answered.stderr
    ends = eventually(
        lambda: found if len(found := on_the_bus.history(session)) >= _MEMBERS else None
    )
    assert {end["signal"] for end in ends} == {signal.SIGKILL}
