"""Leaving a ``Cohort`` stops what was started in it, also what that launched, and proves it."""

import datetime as dt
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

import scopekeeper
from scopekeeper.errors import RemainsError, UsageError
from tests.machine import (
    FOREVER,
    PROGRAM,
    Scopekeeper,
    cgroup_of,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    leaves,
    processes,
    rewrite_record,
    rounds,
    scope_directories,
    text_of,
)

from .manager import Units, systemd_run_argv

pytestmark = pytest.mark.systemd

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1000; done"
INNER = """
import scopekeeper, sys
cohort = scopekeeper.Cohort()
print(cohort.spawn(["sleep", "infinity"], name="inner").pid, flush=True)
sys.stdin.read()
"""


def run(*arguments: str) -> list[str]:
    """Return the command line of a ``run`` that a member does itself."""
    return [PROGRAM, "run", *arguments]


def member_named(name: str) -> int:
    """Return the pid that is alone in the leaf of a member of this name; 0 if there is none."""
    for scope in scope_directories():
        for leaf in leaves(scope):
            if leaf.startswith(f"m-{name}."):
                for pid in processes(f"{scope}/{leaf}"):
                    if text_of(f"/proc/{pid}/comm") == "sleep\n":
                        return pid
    return 0


def moved(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has become its command outside of the leaf it was started in."""
    arrived = text_of(f"/proc/{process.pid}/comm") == "sleep\n"
    return arrived and directory_of(process.pid) != process.directory


@pytest.mark.parametrize("lifetime", ["gateway", "session", "detached"])
@pytest.mark.parametrize("other", ["", ":other"])
def test_a_member_that_is_a_run_itself_is_stopped_where_it_went(
    keeper: Scopekeeper, session: str, lifetime: str, other: str
) -> None:
    assert keeper
    words = ("-s", session + other, "-n", "wrapped", "--lifetime", lifetime)
    with scopekeeper.Cohort(session=session) as cohort:
        process = cohort.spawn(run(*words, "--", *FOREVER))
        eventually(lambda: moved(process))
        assert cohort.members == (process,)
        first, second = cohort.stop(note="enough")
        assert (first.outcome, second.outcome) == ("empty", "terminated")
        assert second.target.leaf.startswith("m-wrapped.")
        assert process.poll() == -signal.SIGTERM
        assert cohort.members == ()
    assert "enough" in keeper.call("why", session + other).stdout


def test_what_members_launched_is_stopped_and_nothing_else(
    keeper: Scopekeeper, session: str
) -> None:
    """Also where what launched it has ended, and what was launched from there again."""
    stranger = keeper.member("-s", session, "-n", "stranger", "--", *FOREVER)
    kept = {"kept": "session", "apart": "detached"}
    deep = shlex.join(run("-n", "deepest", "--", *FOREVER))
    script = "; ".join(
        [
            shlex.join(["setsid", "-f", *run("-n", "left", "--", *FOREVER)]),
            shlex.join(["setsid", "-f", *run("-n", "deep", "--", "sh", "-c", f"{deep} & wait")]),
            *(
                shlex.join(["setsid", "-f", *run("-n", name, "--lifetime", life, "--", *FOREVER)])
                for name, life in kept.items()
            ),
            f"{shlex.join(run('-n', 'waited', '-s', session + ':b', '--', *FOREVER))}; :",
        ]
    )
    with scopekeeper.Cohort(session=session) as cohort:
        cohort.spawn(["sh", "-c", script], name="sh")
        inner = cohort.spawn(
            [sys.executable, "-c", INNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            name="python",
        )
        theirs = int(inner.stdout.readline())
        names = ("left", "deepest", "waited", *kept)
        pids = {name: eventually(lambda name=name: member_named(name)) for name in names}
        killed = cohort.spawn(["sh", "-c", run_and_go("early")], name="early-sh")
        assert killed.wait() == 0
        pids["early"] = eventually(lambda: member_named("early"))
        cohort._tidy(always=True)  # as many later members have it done
    alive = {name for name, pid in pids.items() if is_alive(pid)}
    assert alive == {"kept", "apart"}
    assert not is_alive(theirs)
    assert is_alive(stranger.pid)
    inner.stdin.close()
    inner.stdout.close()


def run_and_go(name: str) -> str:
    """Return a script that launches a member and ends when that runs."""
    launch = shlex.join(["setsid", "-f", *run("-n", name, "--", *FOREVER)])
    return f"{launch} >/dev/null 2>&1"


def test_what_was_adopted_since_is_not_the_cohorts(keeper: Scopekeeper, session: str) -> None:
    other = keeper.popen([*FOREVER])
    with scopekeeper.Cohort(session=session, owner=os.getpid()) as cohort:
        cohort.spawn(["sh", "-c", run_and_go("adopted")]).wait()
        pid = eventually(lambda: member_named("adopted"))
        adoption = ("-n", "adopted", "--owner", str(other.pid), "--force")
        assert keeper.call("adopt", "-s", session, *adoption).returncode == 0
    assert is_alive(pid)


def test_a_launch_that_is_stopped_on_its_way_is_ended(keeper: Scopekeeper, session: str) -> None:
    """It moves to a scope of its own, by systemd, in one of these moments."""
    assert keeper
    for part in rounds(32, least=8, seconds=8):
        with scopekeeper.Cohort(session=session) as cohort:
            process = cohort.spawn(run("-s", f"{session}:{part}", "--", *FOREVER))
            time.sleep(part * 0.3)
        assert process.poll() is not None
        assert all(not processes(each) for each in scope_directories())


def test_a_child_that_lives_elsewhere_is_named(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    """Its environment does not name its scope: only this process knows that it is its child.

    No member is stopped for a record that says that the child leads it.
    """
    stranger = keeper.member("-s", session, "--", *FOREVER)
    unit = f"elsewhere-{session[-8:]}.scope"
    units.adopt(unit)
    leave = systemd_run_argv("--scope", "--collect", f"--unit={unit}", "env", "-i", *FOREVER)
    cohort = scopekeeper.Cohort(session=session)
    process = cohort.spawn(leave)
    eventually(lambda: unit in cgroup_of(process.pid) and moved(process))
    assert "SCOPEKEEPER_MEMBER" not in environment_of(process.pid)
    started = text_of(f"/proc/{process.pid}/stat").rpartition(")")[2].split()[19]
    rewrite_record(directory_of(stranger.pid), PID=str(process.pid), START=started)
    with pytest.raises(RemainsError) as raised:
        cohort.close()
    assert is_alive(stranger.pid)
    assert f"pid {process.pid} (sleep infinity)" in str(raised.value)
    assert unit in str(raised.value)
    assert [each.outcome for each in raised.value.results] == ["empty"]
    assert is_alive(process.pid)
    process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.fixture
def runaway(keeper: Scopekeeper, session: str, units: Units) -> scopekeeper.Process:
    """Start a member that leaves its scope, whose command line has two lines."""
    assert keeper
    unit = f"runaway-{session[-8:]}.scope"
    units.adopt(unit)
    leave = systemd_run_argv("--scope", "--collect", f"--unit={unit}", "sh", "-c", "read x\n:")
    process = scopekeeper.spawn(leave, session=session, name="runaway", stdin=subprocess.PIPE)
    eventually(lambda: unit in cgroup_of(process.pid))
    eventually(lambda: text_of(f"/proc/{process.pid}/comm") == "sh\n")
    return process


@pytest.mark.parametrize("is_word", [True, False])
def test_what_had_left_a_scope_is_named_and_ended(
    runaway: scopekeeper.Process, session: str, is_word: bool
) -> None:
    """As by the command ``stop``: also once the scope is gone."""
    words, named = ((session,), {}) if is_word else ((), {"session": session})
    for _ in range(3):  # the empty scope is there at the first, or gone already
        with pytest.raises(RemainsError) as raised:
            scopekeeper.stop(*words, **named)
        assert re.search(rf"pid {runaway.pid} \(\S*sh -c read x", str(raised.value))
        assert "ls --escaped" in raised.value.hint
        assert "escaped=True" in raised.value.hint
        assert "\n" not in str(raised.value)
        assert [[x.pid for x in each.escaped] for each in raised.value.results] == [[runaway.pid]]
        assert str(raised.value.results[0]).endswith("; 1 process that had left it lives on")
        assert is_alive(runaway.pid)
    eventually(lambda: not scope_directories())
    (result,) = scopekeeper.stop(*words, escaped=True, **named)
    assert [(each.pid, how) for each, how in result.ended_escaped] == [(runaway.pid, "terminated")]
    assert str(result).endswith("was already empty; 1 process that had left it ended")
    assert (result.target.unit, result.target.leaf) == (runaway.scope, runaway.member)
    assert runaway.wait() == -signal.SIGTERM
    runaway.stdin.close()
    assert scopekeeper.stop(session=session, escaped=True) == []


def test_a_cohort_names_what_has_left_it_and_what_ends_it(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    unit = f"left-{session[-8:]}.scope"
    units.adopt(unit)
    leave = shlex.join(systemd_run_argv("--scope", "--collect", f"--unit={unit}", *FOREVER))
    cohort = scopekeeper.Cohort(session=session)
    cohort.spawn(["sh", "-c", f"setsid -f {leave} >/dev/null 2>&1; exec sleep 1000"])
    pid = eventually(lambda: next(iter(in_unit(unit)), 0))
    with pytest.raises(RemainsError) as raised:
        cohort.close()
    assert re.search(rf"pid {pid} \(\S*sleep infinity\) had left", str(raised.value))
    assert "ls --escaped" in raised.value.hint
    assert str(pid) in keeper.call("ls", "--escaped").stdout
    scopekeeper.stop(session=session, escaped=True)
    assert not is_alive(pid)


def in_unit(unit: str) -> list[int]:
    """Return the processes in a unit that are sleeping commands."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [
        pid for pid in pids if unit in cgroup_of(pid) and text_of(f"/proc/{pid}/comm") == "sleep\n"
    ]


@pytest.mark.parametrize("grace", [dt.timedelta(milliseconds=50), "50ms", 0.05])
def test_a_grace_is_a_duration(keeper: Scopekeeper, session: str, grace: object) -> None:
    assert keeper
    with scopekeeper.Cohort(session=session) as cohort:
        member = cohort.spawn(["sh", "-c", STUBBORN], stdout=subprocess.PIPE)
        assert member.stdout.readline() == b"ready\n"
        (result,) = cohort.stop(grace=grace)
        assert (result.outcome, member.wait()) == ("killed", -signal.SIGKILL)
        member.stdout.close()


def test_an_invalid_stop_sends_no_signal(keeper: Scopekeeper, session: str) -> None:
    assert keeper
    with scopekeeper.Cohort(session=session) as cohort:
        member = cohort.spawn(FOREVER)
        for wrong in ({"grace": "soon"}, {"grace": -1}, {"grace": [1]}, {"note": 5}):
            with pytest.raises(UsageError, match=f"{next(iter(wrong))}="):
                cohort.stop(**wrong)
            with pytest.raises(UsageError, match=f"{next(iter(wrong))}="):
                scopekeeper.stop(session=session, **wrong)
        assert is_alive(member.pid)


FORKING = """
import os, sys, scopekeeper
with scopekeeper.Cohort(session=sys.argv[1]) as cohort:
    member, place = cohort.spawn(["sleep", "infinity"]), cohort.place("p")
    if not os.fork():
        try:
            cohort.spawn(["true"])
        except scopekeeper.errors.UsageError as error:
            print("refused", flush=True)
        print(cohort.stop(), flush=True)
        sys.exit(0)
    os.wait()
    print(member.poll(), os.path.isdir(place.directory), flush=True)
print(member.poll())
"""


def test_a_forked_child_ends_nothing_of_its_parents(keeper: Scopekeeper, session: str) -> None:
    assert keeper
    done = subprocess.run(
        [sys.executable, "-c", FORKING, session], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines() == ["refused", "[]", "None True", "-15"], done.stderr


ASKING = """
import os, sys, scopekeeper
with scopekeeper.Cohort(session=sys.argv[1]) as cohort:
    cohort.spawn(["sleep", "infinity"], name="asked")
    cohort.stop()
    cohort.spawn(["sleep", "infinity"], name="left")
    print(os.getpid())
"""


def test_the_history_names_this_process_as_the_one_that_asked(
    keeper: Scopekeeper, session: str
) -> None:
    script = f'{sys.executable} -c "$0" {session}; :'
    pid = subprocess.run(
        ["sh", "-c", script, ASKING], capture_output=True, text=True, timeout=300
    ).stdout.strip()
    ends = json.loads(keeper.call("history", "-s", session, "--json").stdout)["ends"]
    asked = {each["member"]: each["stopper"]["pid"] for each in ends}
    assert asked == {"asked": int(pid), "left": int(pid)}
