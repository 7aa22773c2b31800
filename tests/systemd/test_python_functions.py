"""``scopekeeper.list_scopes``, ``stop`` and ``wait``: the commands, for a program in Python."""

import datetime as dt
import os
import signal
import subprocess
import sys
import time

import pytest

import scopekeeper
from scopekeeper.errors import NotFoundError, RemainsError, UsageError
from tests.machine import FOREVER, PROGRAM, Scopekeeper, cgroup_of, directory_of, is_alive

pytestmark = pytest.mark.systemd


def unit_of(process: subprocess.Popen[bytes]) -> str:
    """Return the scope unit that a member is in."""
    return cgroup_of(process.pid).split("/")[-2]


def test_scopes_and_members_are_listed(keeper: Scopekeeper, session: str) -> None:
    before = time.time()
    one = keeper.member("-s", session, "-l", "a", "-n", "git", "--", *FOREVER)
    two = keeper.member("-s", session, "-l", "b", "--", *FOREVER)
    first, second = sorted(scopekeeper.list_scopes(session=session), key=lambda each: each.lane)
    assert (first.unit, second.unit) == (unit_of(one), unit_of(two))
    assert (first.session, first.lane, first.state, first.uid) == (
        session, "a", "running", os.getuid(),
    )  # fmt: skip
    (member,) = first.members
    assert (member.name, member.pid, member.pids) == ("git", one.pid, (one.pid,))
    assert member.owner == f"pid {os.getpid()}" or member.owner.endswith((".service", ".scope"))
    assert before - 1 < member.started < time.time() + 1
    for selection in (
        {"lane": "a"}, {"name": "git"}, {"lane": "a", "state": ("running", "orphan")},
        {"lane": "a", "started_before": dt.datetime.now(tz=dt.UTC) + dt.timedelta(seconds=5)},
    ):  # fmt: skip
        assert [each.unit for each in scopekeeper.list_scopes(session=session, **selection)] == [
            first.unit
        ], selection
    both = [each.unit for each in scopekeeper.list_scopes(session)]
    assert [each.unit for each in scopekeeper.list_scopes(first.unit, second.unit)] == both
    assert scopekeeper.list_scopes("nobody-has-this") == []
    assert scopekeeper.list_scopes(session=session, state="orphan") == []


def test_a_session_is_stopped_with_proof(keeper: Scopekeeper, session: str) -> None:
    going = keeper.member("-s", session, "--", *FOREVER)
    staying = keeper.member("-s", f"{session}x", "--", *FOREVER)
    (result,) = scopekeeper.stop(session=session, note="said by Python")
    assert (result.outcome, result.terminated, result.killed) == ("terminated", 1, 0)
    assert going.wait() == -signal.SIGTERM
    assert is_alive(staying.pid)
    assert "said by Python" in keeper.call("why", session).stdout
    assert f"pid {os.getpid()}" in keeper.call("why", session).stdout
    assert scopekeeper.stop(session=session) == []


def test_what_this_process_owns_is_stopped_and_nothing_else(
    keeper: Scopekeeper, session: str
) -> None:
    other = keeper.popen(["sleep", "infinity"])
    theirs = keeper.member("-s", session, "-n", "a", "--owner", str(other.pid), "--", *FOREVER)
    mine = scopekeeper.spawn([*FOREVER], session=session, name="b")
    (result,) = scopekeeper.stop(session=session, mine=True)
    assert result.outcome == "terminated"
    assert mine.wait() == -signal.SIGTERM
    assert is_alive(theirs.pid)


def test_grace_is_a_duration(keeper: Scopekeeper, session: str) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 1000; done"
    member = keeper.start("-s", session, "--", "sh", "-c", script, stdout=subprocess.PIPE)
    assert member.stdout.readline() == b"ready\n"
    (result,) = scopekeeper.stop(session, grace=dt.timedelta(milliseconds=50))
    assert result.outcome == "killed"
    assert member.wait() == -signal.SIGKILL


def test_a_word_that_matches_nothing_stops_nothing(keeper: Scopekeeper, session: str) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    with pytest.raises(NotFoundError, match=r"nobody-has-this.*list_scopes"):
        scopekeeper.stop(session, "nobody-has-this")
    assert is_alive(member.pid)


def test_what_is_refused_is_raised_with_the_results(keeper: Scopekeeper, session: str) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    os.setxattr(os.path.dirname(directory_of(member.pid)), "user.scopekeeper", b"nonsense")
    with pytest.raises(RemainsError) as raised:
        scopekeeper.stop(session=session)
    (result,) = raised.value.results
    assert result.outcome == "refused"
    assert is_alive(member.pid)


def test_the_end_of_a_run_is_waited_for(keeper: Scopekeeper, session: str) -> None:
    command = ("exec", "-d", "-s", session, "--", "sh", "-c", "sleep 2; exit 3")
    run = keeper.call(*command).stdout.strip()
    try:
        with pytest.raises(TimeoutError, match=run):
            scopekeeper.wait(run, timeout=0.1)
        (ended,) = scopekeeper.wait(run, timeout="30s")
        assert (ended.status, ended.reason) == (3, "exited")
        assert scopekeeper.wait(run[:6], run) == [ended, ended]
        with pytest.raises(NotFoundError, match="no run"):
            scopekeeper.wait("00000000")
    finally:
        how = [] if os.geteuid() == 0 else ["--user"]
        subprocess.run(["systemctl", *how, "stop", "scopekeeper.service"], check=False)


def test_errors_of_a_launch_name_arguments(keeper: Scopekeeper, session: str) -> None:
    assert keeper
    with pytest.raises(UsageError, match=r"member_memory_max='4Q' is not a size"):
        scopekeeper.spawn(["true"], session=session, member_memory_max="4Q")
    with scopekeeper.Cohort(session=session) as cohort, pytest.raises(UsageError) as raised:
        cohort.place("git", within=7200)
    assert str(raised.value).startswith("within='")
    script = "import scopekeeper; scopekeeper.stop()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "session_id=" in done.stderr
    assert "--session" not in done.stderr
    assert "--session" in subprocess.run([PROGRAM, "stop"], capture_output=True, text=True).stderr


@pytest.mark.parametrize("way", ["spawn", "place", "replace"])
def test_a_scope_of_another_life_is_not_joined_in_silence(
    keeper: Scopekeeper, session: str, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    assert keeper
    with scopekeeper.Cohort(session, session_id="1") as first:
        first.spawn(FOREVER, name="a")
        with scopekeeper.Cohort(session, session_id="1", ttl=60) as same:
            same.spawn(FOREVER)
        (warning,) = caplog.messages
        assert warning == "ttl= has no effect: the scope exists, with none"
        caplog.clear()
        with scopekeeper.Cohort(session, session_id="2") as second:
            if way == "place":
                second.place("b")
            else:
                second.spawn(FOREVER, name="b", replace=way == "replace")
            (warning,) = caplog.messages
            assert warning.startswith("session_id= has no effect: the scope exists, with another")
            assert "give another run=" in warning


def test_a_cohorts_own_grace_counts_in_a_scope_that_has_another(
    keeper: Scopekeeper, session: str
) -> None:
    assert keeper
    script = "trap '' TERM; echo ready; while :; do sleep 1000; done"
    with scopekeeper.Cohort(session, grace="1h") as first:
        stays = first.spawn(FOREVER)
        with scopekeeper.Cohort(session, grace=0.05) as second:
            stubborn = second.spawn(["sh", "-c", script], stdout=subprocess.PIPE)
            assert stubborn.stdout.readline() == b"ready\n"
        assert stubborn.wait() == -signal.SIGKILL
        assert is_alive(stays.pid)
        stubborn.stdout.close()
