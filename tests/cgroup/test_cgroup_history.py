"""Where no systemd takes an emptied scope away, what it held is told when it is found."""

import os
import signal
import sqlite3
import subprocess
from contextlib import closing

import pytest

from tests.machine import (
    Scopekeeper,
    directory_of,
    end_cgroup,
    eventually,
    record_of,
    scope_directories,
)

pytestmark = pytest.mark.root

STUBBORN = ("sh", "-c", "trap '' TERM HUP INT; echo ready; while :; do sleep 1000; done")


def rows() -> list[dict[str, object]]:
    """Return the ends that were told, the oldest first."""
    path = os.path.join(os.environ["SCOPEKEEPER_STATE"], "history.db")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM ends ORDER BY ended, row")]


@pytest.fixture
def owner(keeper: Scopekeeper) -> str:
    """Give the pid of an owner that no other scope of this machine has."""
    return str(keeper.popen(["sleep", "infinity"]).pid)


def reconcile(keeper: Scopekeeper, owner: str) -> None:
    """Reconcile what is of that owner, twice, as if the first had not been trusted."""
    for _ in range(2):
        done = keeper.call("reconcile", "--owner", owner)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_ended_unseen_is_told_when_its_scope_is_removed(
    keeper: Scopekeeper, folder: str, session: str, owner: str
) -> None:
    done = keeper.run("-s", session, "--owner", owner, "-n", "short", "--", "sh", "-c", "exit 3")
    assert done.returncode == 3
    assert scope_directories(folder)
    reconcile(keeper, owner)
    assert not scope_directories(folder)
    (row,) = rows()
    assert (row["name"], row["reason"], row["seen"]) == ("short", "unknown", 0)


def test_of_a_stop_that_was_killed_it_is_told_who_had_begun_it(
    keeper: Scopekeeper, folder: str, session: str, owner: str
) -> None:
    process = keeper.start("-s", session, "--owner", owner, "--", *STUBBORN, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    scope = os.path.dirname(directory_of(process.pid))
    stop = keeper.popen(
        [keeper.argv()[0], "stop", "-s", session, "--grace", "1000s", "--reason", "turn is over"]
    )
    eventually(lambda: record_of(scope).get("STATE") == "stopping")
    stop.kill()
    stop.wait()
    end_cgroup(scope)
    assert process.wait() == -signal.SIGKILL
    reconcile(keeper, owner)
    (row,) = rows()
    assert (row["reason"], row["seen"], row["stopper_pid"]) == (
        "stopped by request", 0, os.getpid()
    )  # fmt: skip
    assert "turn is over" in row["evidence"]
    assert "nobody watched it end" in row["evidence"]


def test_a_stop_tells_of_those_that_had_ended_before_it(
    keeper: Scopekeeper, session: str, owner: str
) -> None:
    keeper.member("-s", session, "--owner", owner, "-n", "lives", "--", "sleep", "infinity")
    keeper.run("-s", session, "--owner", owner, "-n", "ended", "--", "true")
    done = keeper.call("stop", "-s", session)
    assert (done.returncode, done.stderr) == (0, "")
    assert {row["name"]: row["reason"] for row in rows()} == {
        "lives": "stopped by request",
        "ended": "unknown",
    }


def test_of_who_ended_unseen_it_is_told_although_the_last_beside_it_is_stopped_by_name(
    keeper: Scopekeeper, folder: str, session: str, owner: str
) -> None:
    keeper.member("-s", session, "--owner", owner, "-n", "lives", "--", "sleep", "infinity")
    keeper.run("-s", session, "--owner", owner, "-n", "ended", "--", "true")
    done = keeper.call("stop", "-s", session, "-n", "lives")
    assert (done.returncode, done.stderr) == (0, "")
    reconcile(keeper, owner)
    assert not scope_directories(folder)
    assert {row["name"]: row["reason"] for row in rows()} == {
        "lives": "stopped by request",
        "ended": "unknown",
    }
