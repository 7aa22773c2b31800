"""What the history and the bus know of an end: time limits of systemd, numbers, CPU time.

CPU time is read from the cgroup itself, rows of the history with SQLite.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    directory_of,
    eventually,
    text_of,
)

from .guard import Keeper
from .test_history import by_name, rows

pytestmark = pytest.mark.systemd

BUSY = ("sh", "-c", 'setsid sleep 1000 & trap "" TERM; echo ready; while :; do :; done')
"""Uses CPU, ignores SIGTERM, and has a helper that does not."""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a state folder of its own."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def gone(process: subprocess.Popen[bytes]) -> Callable[[], bool]:
    """Return a function that returns whether the scope of a member is gone."""
    scope = os.path.dirname(directory_of(process.pid))
    return lambda: not os.path.exists(scope)


def test_the_time_limit_is_the_reason_although_nobody_watched(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    limited = keeper.member("-s", session, "-n", "limited", "--ttl", "2s", "--", *FOREVER)
    over = gone(limited)
    assert limited.wait(PATIENCE)
    eventually(over)
    told = keeper.call("why", session).stdout
    assert "limited (m-limited." in told
    assert "was ended because its time was over" in told
    assert "systemd ended its scope after its 2 s" in told
    (row,) = rows(state)
    assert row["reason"] == "ttl"


def test_an_earlier_end_is_not_that_of_a_time_limit(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    """Neither of an earlier scope of that name, nor of a member beside another one."""
    early = keeper.member("-s", session, "-n", "early", "--ttl", "2s", "--", *FOREVER)
    over = gone(early)
    early.kill()
    early.wait()
    eventually(over)
    later = keeper.member("-s", session, "-n", "later", "--ttl", "2s", "--", *FOREVER)
    beside = f"{session}:2"
    one, two = (
        keeper.member("-s", beside, "-n", name, "--ttl", "2s", "--", *FOREVER)
        for name in ("one", "two")
    )
    one.kill()
    one.wait()
    for each in (later, two):
        over = gone(each)
        assert each.wait(PATIENCE)
        eventually(over)
    assert keeper.call("history").returncode == 0
    reasons = {name: row["reason"] for name, row in by_name(state).items()}
    assert reasons == {"early": "unknown", "later": "ttl", "one": "unknown", "two": "unknown"}


def test_a_stop_that_takes_long_is_no_time_limit(
    keeper: Scopekeeper, session: str, state: Path
) -> None:
    """systemd has the same result for both."""
    words = ("-s", session, "-n", "busy", "--ttl", "1h", "--grace", "1s", "--", *BUSY)
    busy = keeper.start(*words, stdout=subprocess.PIPE)
    assert busy.stdout.readline() == b"ready\n"
    over, unit = gone(busy), os.path.basename(os.path.dirname(directory_of(busy.pid)))
    options = [] if os.getuid() == 0 else ["--user"]
    subprocess.run(["systemctl", *options, "stop", unit], check=True, timeout=PATIENCE)
    assert busy.wait(PATIENCE)
    eventually(over)
    assert keeper.call("history").returncode == 0
    (row,) = rows(state)
    assert row["reason"] == "unknown"


def cpu_until_gone(leaf: str, over: Callable[[], bool]) -> int:
    """Return the CPU time that a cgroup had used when it was last there, in microseconds."""
    used = 0
    until = time.monotonic() + PATIENCE
    while not over() and time.monotonic() < until:
        for line in text_of(f"{leaf}/cpu.stat").splitlines():
            if line.startswith("usage_usec "):
                used = int(line.split()[1])
        time.sleep(0.002)
    return used


@pytest.mark.parametrize("watched", [False, True])
def test_the_cpu_time_is_that_until_the_kill(
    keeper: Scopekeeper, session: str, state: Path, request: pytest.FixtureRequest, watched: bool
) -> None:
    where = state
    if watched:
        guard: Keeper = request.getfixturevalue("guard")
        guard.start()
        where = guard.state
    busy = keeper.start("-s", session, "-n", "busy", "--", *BUSY, stdout=subprocess.PIPE)
    assert busy.stdout.readline() == b"ready\n"
    leaf, over = directory_of(busy.pid), gone(busy)
    stop = keeper.popen([PROGRAM, "stop", "-s", session, "--grace", "3s"], stdout=subprocess.PIPE)
    used = cpu_until_gone(leaf, over)
    assert stop.wait(PATIENCE) == 0
    assert used > 150_000, "it was busy"
    row = eventually(lambda: (found := rows(where)) and found[0])
    assert used - 50_000 <= row["cpu_usec"] <= used + 500_000, (used, row["cpu_usec"])


def test_the_bus_has_the_numbers_of_the_history(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    watch = keeper.popen(
        [PROGRAM, "watch", "-s", session, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert b"watching" in watch.stderr.readline()
    busy = keeper.start("-s", session, "-n", "busy", "--", *BUSY, stdout=subprocess.PIPE)
    assert busy.stdout.readline() == b"ready\n"
    assert keeper.call("stop", "-s", session, "--grace", "200ms").returncode == 0
    (row,) = eventually(lambda: rows(guard.state))
    event: dict[str, object] = {}
    while event.get("event") != "MemberEnded":
        event = json.loads(watch.stdout.readline())
    assert (event["processes"], event["killed"]) == (row["processes"], row["killed"]) == (2, 1)
    assert event["oom_kills"] is None
    watch.terminate()
    assert watch.wait(PATIENCE) == 0
