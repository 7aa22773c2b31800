"""A ``run`` inside of a ``run``: it belongs to the same session, unless it says otherwise."""

import os
import shlex
import subprocess

import pytest

from tests.machine import (
    FOREVER,
    Scopekeeper,
    cgroup_of,
    children_of,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    record_of,
    text_of,
)

pytestmark = pytest.mark.systemd


def nested(
    keeper: Scopekeeper, outer: list[str], inner: list[str], **how: object
) -> tuple[subprocess.Popen[bytes], int]:
    """Launch one member by another; return both."""
    script = shlex.join(keeper.argv(*inner, "-n", "inner", "--", *FOREVER)) + " & wait"
    process = keeper.member(*outer, "-n", "outer", "--", "sh", "-c", script, **how)
    (pid,) = eventually(lambda: children_of(process.pid))
    eventually(lambda: "SCOPEKEEPER_MEMBER=m-inner." in text_of(f"/proc/{pid}/environ"))
    return process, pid


def scope_of(pid: int) -> str:
    """Return the scope directory that a member is in."""
    return os.path.dirname(directory_of(pid))


def test_it_joins_the_session_and_lane_it_runs_in(keeper: Scopekeeper, session: str) -> None:
    outer, inner = nested(keeper, ["-s", session, "-l", "nested:deep", "--run", "7"], [])
    assert scope_of(inner) == scope_of(outer.pid)
    assert cgroup_of(inner) != cgroup_of(outer.pid)


def test_a_lane_of_its_own_stays_in_the_session(keeper: Scopekeeper, session: str) -> None:
    outer, inner = nested(keeper, ["-s", session], ["-l", "cron"])
    assert scope_of(inner) != scope_of(outer.pid)
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_alive(inner)


def test_it_belongs_to_the_owner_of_the_outer_one(keeper: Scopekeeper, session: str) -> None:
    owner = keeper.popen(["sleep", "infinity"])
    outer, inner = nested(keeper, ["-s", session, f"--owner={owner.pid}"], [])
    assert record_of(directory_of(inner))["OWNER_PID"] == str(owner.pid)
    owner.kill()
    owner.wait()
    assert keeper.call("reconcile").returncode == 0
    assert not is_alive(inner)
    assert not is_alive(outer.pid), "it ends by the signal, or because what it waited for did"


def test_nothing_of_another_session_is_handed_on(keeper: Scopekeeper, session: str) -> None:
    stale = {
        "SCOPEKEEPER_SESSION": "another",
        "SCOPEKEEPER_LANE": "cron",
        "SCOPEKEEPER_RUN": "old",
        "SCOPEKEEPER_SESSION_ID": "life-of-another",
    }
    outer, inner = nested(keeper, ["-s", session], ["-l", "cron"], env={**os.environ, **stale})
    assert record_of(scope_of(outer.pid))["LANE"] == "main"
    for pid in (outer.pid, inner):
        assert record_of(scope_of(pid))["SESSION"] == session
        assert "SESSION_ID" not in record_of(scope_of(pid))
        assert "SCOPEKEEPER_RUN" not in environment_of(pid)
    keeper.call("stop", "--session-id", "life-of-another")
    assert is_alive(inner)


def test_the_session_id_of_the_environment_is_that_of_the_scope(
    keeper: Scopekeeper, session: str
) -> None:
    given = {**os.environ, "SCOPEKEEPER_SESSION": session, "SCOPEKEEPER_SESSION_ID": "life-1"}
    outer, inner = nested(keeper, [], ["-l", "cron"], env=given)
    assert record_of(scope_of(outer.pid))["SESSION_ID"] == "life-1"
    assert record_of(scope_of(inner))["SESSION_ID"] == "life-1"
