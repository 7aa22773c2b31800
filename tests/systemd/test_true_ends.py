"""What is recorded and printed of an end is true, whoever else ends it at the same time."""

import json
import os
import signal
import subprocess
import sys

import pytest

from scopekeeper.lifecycle import reconcile as carry_out
from scopekeeper.lifecycle.plan import plan
from scopekeeper.policy.rules import Policy
from scopekeeper.scope.snapshot import Reader
from tests.machine import (
    FOREVER,
    MOUNT,
    PROGRAM,
    Scopekeeper,
    directory_of,
    end_cgroup,
    eventually,
    is_alive,
    processes,
    record_of,
    rewrite_record,
    scope_directory,
)

from .guard import Keeper

pytestmark = pytest.mark.systemd

QUIET = ("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
STUBBORN = ("sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 1000; done')
FORKING = (
    sys.executable,
    "-c",
    """import signal, subprocess
stubborn = ["setsid", "sh", "-c", 'trap "" TERM; while :; do sleep 1000; done']
signal.signal(signal.SIGTERM, lambda *_: [subprocess.Popen(stubborn) for _ in range(3)])
print("ready", flush=True)
while True:
    signal.pause()
""",
)
"""Answers SIGTERM with three more processes, and ends only when it is killed."""


def ready(keeper: Scopekeeper, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a command that writes a line once it handles signals."""
    process = keeper.start(*arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def say(guard: Keeper, *arguments: str) -> str:
    """Return what a command prints about the history of the guard."""
    done = subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, "SCOPEKEEPER_STATE": str(guard.state)},
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_end_of_the_owner_and_that_of_the_command_are_two(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    owner = keeper.popen(list(FOREVER))
    common = ("-s", session, "--owner", str(owner.pid))
    quiet = ready(keeper, *common, "-n", "quiet", "--", *QUIET)
    plain = keeper.member(*common, "-n", "plain", "--", *FOREVER)
    owner.kill()
    owner.wait()

    def ended() -> dict[object, tuple[object, object]]:
        ends = guard.history(session)
        return {end["member"]: (end["exit_status"], end["signal"]) for end in ends}

    # not reaped until then: before Linux 6.15 only a zombie shows how it ended
    eventually(lambda: ended() == {"quiet": (0, None), "plain": (None, signal.SIGTERM)})
    assert (quiet.wait(), plain.wait()) == (0, -signal.SIGTERM)
    evidence = f"process {owner.pid} has ended"
    assert {end["evidence"] for end in guard.history(session)} == {evidence}
    told = say(guard, "why", session)
    assert f": {evidence}; its command exited with status 0; " in told
    assert f": {evidence}; its command was ended by SIGTERM; " in told


@pytest.mark.parametrize("has_keeper", [False, True])
def test_no_more_are_killed_than_were_ended(
    guard: Keeper, keeper: Scopekeeper, session: str, has_keeper: bool
) -> None:
    if has_keeper:
        guard.start()
    process = ready(keeper, "-s", session, "--grace", "1s", "--", *FORKING)
    done = json.loads(say(guard, "stop", "-s", session, "--json"))
    (stopped,) = done["stopped"]
    assert process.wait() == -signal.SIGKILL
    assert stopped["killed"] >= 7, "itself, three shells and what these wait for"
    assert stopped["processes"] >= stopped["killed"]
    (end,) = eventually(lambda: [e for e in guard.history(session) if e["killed"]])
    assert end["killed"] == stopped["killed"]
    assert end["processes"] == stopped["processes"]
    told = say(guard, "why", session)
    assert f"{end['processes']} processes ended, {end['killed']} of them by SIGKILL" in told


def being_ended(keeper: Scopekeeper, session: str, grace: str) -> subprocess.Popen[bytes]:
    """Start a member that ignores SIGTERM, end its owner, and wait until the keeper stops it."""
    owner = keeper.popen(list(FOREVER))
    member = ready(keeper, "-s", session, "--grace", grace, "--owner", str(owner.pid), "--",
                   *STUBBORN)  # fmt: skip
    scope = scope_directory(session)
    owner.kill()
    owner.wait()
    eventually(lambda: record_of(scope).get("STATE") == "stopping")
    return member


def test_a_stop_counts_what_the_keeper_kills_meanwhile(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    stubborn = being_ended(keeper, session, "3s")
    told = say(guard, "stop", "-s", session, "--grace", "1000s")
    assert stubborn.wait() == -signal.SIGKILL, "by the keeper, whose grace was over"
    assert "; 2 processes terminated, 2 of them killed" in told
    (end,) = eventually(lambda: [e for e in guard.history(session) if e["killed"]])
    assert (end["processes"], end["killed"]) == (2, 2)


def test_reconcile_says_that_the_keeper_is_ending_it_and_until_when(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    stubborn = being_ended(keeper, session, "590s")
    for options in ((), ("--dry-run",)):
        done = keeper.call("reconcile", *options)
        row = next(line for line in done.stdout.splitlines() if line.startswith(session))
        assert done.returncode == 0, done.stderr
        assert f"the keeper (pid {guard.pid}) is ending it, and kills what is left in 9m" in row
        assert " kept " not in row
        assert ("being ended" in row) == (not options)
    (action,) = json.loads(keeper.call("reconcile", "--json").stdout)["actions"]
    assert (action["class"], action["outcome"]) == ("stopping", "being ended")
    assert action["stopper"]["pid"] == guard.pid
    assert 500 < action["stopper"]["kills_in_s"] <= 590
    assert is_alive(stubborn.pid)
    assert keeper.call("stop", "-s", session, "--grace", "0").returncode == 0


def test_a_record_alone_does_not_prove_that_somebody_is_ending_it(
    keeper: Scopekeeper, session: str
) -> None:
    liar = keeper.member("-s", session, "--", *FOREVER)
    scope = scope_directory(session)
    begun = record_of(directory_of(liar.pid))["START"]
    rewrite_record(scope, STATE="stopping", STOPPER_PID=str(liar.pid), STOPPER_START=begun)
    done = keeper.call("reconcile")
    assert done.returncode == 1, done.stdout
    assert f"its record says that process {liar.pid} stops it, which nothing proves" in done.stdout
    assert is_alive(liar.pid)


def test_a_detached_member_is_kept_and_not_owned_by_a_dead_owner(
    keeper: Scopekeeper, session: str
) -> None:
    owner = keeper.popen(list(FOREVER))
    member = keeper.member(
        "-s", session, "-n", "d", "--lifetime=detached", "--owner", str(owner.pid), "--", *FOREVER
    )

    def found() -> tuple[str, str, str]:
        done = keeper.call("reconcile", "--json")
        assert done.returncode == 0, done.stderr
        (action,) = json.loads(done.stdout)["actions"]
        (scope,) = keeper.scopes()
        return action["class"], action["action"], str(scope["state"])

    assert found() == ("owned", "keep", "running")
    owner.kill()
    owner.wait()
    assert found() == ("kept", "keep", "kept")
    assert is_alive(member.pid)


@pytest.mark.parametrize("owner_lives", [True, False])
def test_a_place_ends_when_its_time_is_over_whoever_made_it(
    keeper: Scopekeeper, session: str, owner_lives: bool
) -> None:
    owner = keeper.popen(list(FOREVER))
    words = ("-s", session, "-n", "p", "--within", "10m", "--owner", str(owner.pid))
    done = keeper.call("place", *words)
    assert done.returncode == 0, done.stderr
    if not owner_lives:
        owner.kill()
        owner.wait()
    (scope,) = keeper.scopes()
    assert (scope["state"], scope["ends"]) == ("placed", "later")
    assert 500 < float(str(scope["ends_in_s"])) <= 600
    listed = keeper.call("ls").stdout
    assert " in 9m " in listed, listed
    assert len(processes(scope_directory(session))) == 1, "its holder"
    child = keeper.popen(list(FOREVER))
    with open(f"{done.stdout.strip()}/cgroup.procs", "w") as file:
        file.write(str(child.pid))
    eventually(lambda: "WAITS_UNTIL" not in record_of(done.stdout.strip()))
    (scope,) = keeper.scopes()
    assert scope["ends"] == (None if owner_lives else "now")


@pytest.mark.parametrize("meanwhile", ["another stop begins", "it ends"])
def test_what_changes_after_the_plan_is_said_plainly(
    keeper: Scopekeeper, session: str, meanwhile: str
) -> None:
    owner = keeper.popen(list(FOREVER))
    left = ready(keeper, "-s", session, "--owner", str(owner.pid), "--", *STUBBORN)
    owner.kill()
    owner.wait()
    directory = scope_directory(session)
    snapshot = Reader(MOUNT).snapshot(uid=os.getuid())
    orphans = [each for each in plan(snapshot, Policy()) if each.step.value == "stop"]
    stops: list[subprocess.Popen[bytes]] = []

    def change() -> None:
        if meanwhile == "it ends":
            end_cgroup(directory)
            eventually(lambda: not os.path.isdir(directory))
        elif not stops:
            argv = [keeper.argv()[0], "stop", "-s", session, "--grace", "1000s"]
            stops.append(keeper.popen(argv, stdout=subprocess.DEVNULL))
            eventually(lambda: record_of(directory).get("STATE") == "stopping")

    class Changed(Reader):
        """Changes something before the second look."""

        def again(self) -> Reader:
            change()
            return super().again()

    (done,) = carry_out.apply(
        orphans, Policy(), Changed(MOUNT), snapshot, [], step_out=lambda: None
    )
    if meanwhile == "it ends":
        assert (done.outcome, done.change) == ("changed meanwhile", "it has ended meanwhile")
        return
    assert done.outcome == "being ended"
    assert done.other is not None
    assert (done.other.pid, done.other.is_sure) == (stops[0].pid, True)
    assert is_alive(left.pid)
    assert keeper.call("stop", "-s", session, "--grace", "0").returncode == 0
