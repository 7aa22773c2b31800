"""A ``run`` inside of a ``run``: it belongs to the same session, unless it says otherwise."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    SHELL,
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


@pytest.mark.parametrize("way", ["run", "shell"])
def test_what_a_client_starts_that_is_a_member_itself_ends_with_the_client(
    keeper: Scopekeeper, session: str, tmp_path: Path, way: str
) -> None:
    """The client's name is known, and the owner of its own member, a terminal's shell, lives on."""
    script = tmp_path / "gemini.py"
    inner = [*FOREVER] if way == "run" else ["-c", shlex.join(FOREVER)]
    argv = keeper.argv("-n", "inner", "--", *inner) if way == "run" else [SHELL, *inner]
    script.write_text(f"import subprocess\nsubprocess.run({argv!r}, start_new_session=True)\n")
    client = keeper.member("-s", session, "-n", "client", "--", sys.executable, str(script))
    (pid,) = eventually(lambda: children_of(client.pid))
    eventually(lambda: directory_of(pid) != directory_of(client.pid))
    beside = keeper.member("-s", session, "-n", "beside", "--", *FOREVER)
    record = record_of(directory_of(pid))
    assert (record["OWNER_PID"], record["OWNER_NAME"]) == (str(client.pid), "gemini")
    assert record_of(directory_of(client.pid))["OWNER_PID"] != str(client.pid)
    client.kill()
    client.wait()
    assert keeper.call("reconcile").returncode == 0
    assert not is_alive(pid)
    assert is_alive(beside.pid)
