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

from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    directory_of,
    eventually,
    record_of,
    rewrite_record,
    scope_directory,
)

from .bus import BUS, allowed, busctl
from .guard import UNIT, Keeper
from .manager import show, systemctl

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


_DEAF = (os.cpu_count() or 1) + 6
"""More than the threads that asyncio has."""
_DAMAGES = (
    ("scope", "BOOTTIME", "--5"),
    ("scope", "TTL", "9" * 400),
    ("scope", "CREATED", "9" * 5_000),
    ("scope", "OWNER_PID", "9" * 30),
    ("scope", "GRACE", "9" * 400),
    ("scope", "SESSION", ""),
    ("member", "STARTED", "--5"),
    ("member", "START", "9" * 5_000),
    ("member", "OWNER_PID", "9" * 400),
    ("member", "OWNER_CGROUP", "/" + "x" * 5_000),
    ("member", "ORPHANED", "9" * 400),
    ("member", "LEADERLESS", "-" * 50 + "1"),
)


def test_records_that_no_launch_wrote_hide_no_other_scope_and_end_no_keeper(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()

    def orphan(name: str) -> "subprocess.Popen[bytes]":
        owner = keeper.popen(list(FOREVER))
        member = keeper.member("-s", session, "-n", name, "--owner", str(owner.pid), "--", *FOREVER)
        owner.kill()
        owner.wait()
        return member

    for number, (whose, key, value) in enumerate(_DAMAGES):
        own = ("--owner", str(os.getpid()))
        member = keeper.member("-s", f"{session}:{number}", *own, "--", *FOREVER)
        leaf = directory_of(member.pid)
        rewrite_record(leaf if whose == "member" else os.path.dirname(leaf), **{key: value})
    assert orphan("first").wait(PATIENCE) == -signal.SIGTERM
    before = guard.pid
    os.kill(before, signal.SIGKILL)
    assert orphan("second").wait(PATIENCE) == -signal.SIGTERM
    assert guard.pid not in (0, before)
    assert show(UNIT, "NRestarts") == "1"


def test_scopes_that_take_long_to_stop_keep_no_other_from_being_stopped(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    deaf = ("sh", "-c", "trap '' TERM; echo; while :; do sleep 1000; done")
    options = ("--grace", "1000s", "--owner")
    for number in range(_DEAF):
        owner = keeper.popen(list(FOREVER))
        member = keeper.start(
            "-s", f"{session}:{number}", *options, str(owner.pid), "--", *deaf,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert member.stdout.readline() == b"\n"
        scope = scope_directory(f"{session}:{number}")
        owner.kill()
        owner.wait()
        eventually(lambda scope=scope: record_of(scope).get("STATE") == "stopping")
    owner = keeper.popen(list(FOREVER))
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    owner.kill()
    owner.wait()
    assert member.wait(PATIENCE) == -signal.SIGTERM
    assert systemctl("stop", UNIT).returncode == 0
    assert show(UNIT, "Result") in ("success", ""), "it leaves before systemd has to kill it"


def test_a_policy_that_is_wrong_at_the_start_ends_nothing_until_it_is_mended(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.policy("[lanes.main\n")
    guard.start()
    owner = keeper.popen(list(FOREVER))
    member = keeper.member(
        "-s", session, "--owner", str(owner.pid), "--", *FOREVER, stderr=subprocess.DEVNULL
    )
    owner.kill()
    owner.wait()
    short = keeper.start("-s", f"{session}:2", "--", "sleep", "1", stderr=subprocess.DEVNULL)
    assert short.wait() == 0
    assert guard.ends(f"{session}:2"), "it watches all the same"
    assert member.poll() is None
    guard.policy("")
    os.kill(guard.pid, signal.SIGHUP)
    assert member.wait(PATIENCE) == -signal.SIGTERM


def test_in_the_scope_that_it_ends_it_steps_out_and_goes_on(
    keeper: Scopekeeper, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    gateway = keeper.popen(list(FOREVER))
    member = ("-s", session, "--owner", str(gateway.pid), "--")
    sibling = keeper.member(*member, *FOREVER)
    inside = keeper.member(
        *member, PROGRAM, "keeper", "--no-bus", "--linger", "0s", stderr=subprocess.DEVNULL
    )
    scope = scope_directory(session)
    eventually(lambda: keeper.call("doctor").stdout.count("; learns how processes ended by"))
    gateway.kill()
    gateway.wait()
    assert sibling.wait(PATIENCE) == -signal.SIGTERM
    eventually(lambda: not Path(scope).exists())
    assert inside.wait(PATIENCE) == 0, "it leaves when nothing is left to keep but itself"


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
