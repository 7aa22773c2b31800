"""``reconcile`` ends what is proved to be nobody's any more, and nothing else."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from scopekeeper.lifecycle import reconcile as carry_out
from scopekeeper.lifecycle.plan import plan
from scopekeeper.policy.rules import Policy
from scopekeeper.scope.model import Scope
from scopekeeper.scope.names import ENTERING_SECONDS
from scopekeeper.scope.snapshot import Reader
from tests.machine import (
    FOREVER,
    MOUNT,
    Scopekeeper,
    cgroup_of,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    rewrite_record,
    scope_directories,
    scope_directory,
    state_of,
    wait_for_command,
)

from .manager import Units, main_pid, show, state, systemctl, systemd_run_argv

pytestmark = pytest.mark.systemd


def reconcile(keeper: Scopekeeper, *options: str) -> dict[str, tuple[str, str, str]]:
    """Reconcile; return class, action and evidence of each member by its name ('*' for all)."""
    done = keeper.call("reconcile", "--json", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        action["member"] or "*": (action["class"], action["action"], action["evidence"])
        for action in json.loads(done.stdout)["actions"]
    }


def gateway(
    keeper: Scopekeeper, session: str, *names: str, options: tuple[str, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start a gateway that is a bare process, in a scope unit as a login session's program is."""
    launches = [
        shlex.join(keeper.argv("-s", session, "-n", name, *options, "--", *FOREVER))
        for name in names
    ]
    script = "".join(f"{launch} & " for launch in launches) + "wait"
    process = keeper.popen(systemd_run_argv("--scope", "--", "sh", "-c", script))
    for name in names:
        eventually(lambda name=name: member(name))
    return process


def test_a_leaf_whose_launch_was_killed_before_its_record_is_removed(
    keeper: Scopekeeper, session: str
) -> None:
    lives = keeper.member("-s", session, "-n", "lives", "--", *FOREVER)
    scope = os.path.dirname(directory_of(lives.pid))
    os.mkdir(f"{scope}/m-killed.0123abcd")
    made = os.stat(f"{scope}/m-killed.0123abcd").st_ctime
    first = reconcile(keeper)["killed"]
    if time.time() - made < ENTERING_SECONDS:
        assert first[:2] == ("damaged", "report")  # it may be on its way in
        assert "m-killed.0123abcd" in leaves(scope)
    killed = ("empty", "remove", "its launch was killed")
    eventually(lambda: killed in (first, reconcile(keeper).get("killed")))
    assert leaves(scope) == [os.path.basename(directory_of(lives.pid))]
    assert is_alive(lives.pid)


def test_a_leaf_without_a_record_stays_while_a_process_lives_in_it(
    keeper: Scopekeeper, session: str
) -> None:
    lives = keeper.member("-s", session, "-n", "lives", "--", *FOREVER)
    leaf = f"{os.path.dirname(directory_of(lives.pid))}/m-strange.0123abcd"
    os.mkdir(leaf)
    stranger = keeper.member("-s", session, "-n", "stranger", "--", *FOREVER)
    with open(f"{leaf}/cgroup.procs", "w") as file:
        file.write(str(stranger.pid))
    eventually(lambda: time.time() - os.stat(leaf).st_ctime > ENTERING_SECONDS)
    assert reconcile(keeper)["strange"][:2] == ("damaged", "report")
    assert directory_of(stranger.pid) == leaf
    assert is_alive(stranger.pid)


def member(name: str) -> int:
    """Return the pid of the living member of a name, 0 where there is none."""
    for scope in scope_directories():
        for leaf in leaves(scope):
            if leaf.startswith(f"m-{name}."):
                for pid in processes(f"{scope}/{leaf}"):
                    return pid
    return 0


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a gateway, and it alone, as a crash does."""
    process.kill()
    process.wait()


def test_what_a_killed_gateway_left_is_ended(keeper: Scopekeeper, session: str) -> None:
    crashed = gateway(keeper, session, "one", "two")
    pids = [member("one"), member("two")]
    assert {c for c, _, _ in reconcile(keeper).values()} == {"owned"}
    assert all(map(is_alive, pids))
    end(crashed)
    assert all(map(is_alive, pids)), "they outlive it: that is what reconcile is for"
    found = reconcile(keeper)
    assert found["*"][:2] == ("orphan", "stop")
    assert str(crashed.pid) in found["*"][2]
    assert not any(map(is_alive, pids))
    eventually(lambda: not scope_directories())


def test_a_living_gateways_members_are_never_touched(keeper: Scopekeeper, session: str) -> None:
    process = keeper.member("-s", session, "--", *FOREVER)
    running = gateway(keeper, session + "x", "theirs")
    for _ in range(3):
        reconcile(keeper)
    assert is_alive(process.pid)
    assert is_alive(member("theirs"))
    assert is_alive(running.pid)


def test_what_was_started_to_outlive_its_owner_is_kept(keeper: Scopekeeper, session: str) -> None:
    end(gateway(keeper, session, "apart", options=("--lifetime", "detached")))
    pid = member("apart")
    assert reconcile(keeper)["apart"][:2] == ("kept", "keep")
    assert "kept" in keeper.call("ls", "-s", session).stdout
    assert is_alive(pid)


def test_dry_run_changes_nothing(keeper: Scopekeeper, session: str) -> None:
    end(gateway(keeper, session, "left"))
    pid = member("left")
    before = record_of(directory_of(pid)), record_of(os.path.dirname(directory_of(pid)))
    assert reconcile(keeper, "--dry-run")["*"][:2] == ("orphan", "stop")
    assert is_alive(pid)
    assert before == (record_of(directory_of(pid)), record_of(os.path.dirname(directory_of(pid))))


def test_of_two_owners_in_one_scope_only_the_dead_ones_member_goes(
    keeper: Scopekeeper, session: str
) -> None:
    dying = gateway(keeper, session, "orphan")
    living = gateway(keeper, session, "owned")
    orphan, owned = member("orphan"), member("owned")
    assert os.path.dirname(cgroup_of(orphan)) == os.path.dirname(cgroup_of(owned))
    end(dying)
    found = reconcile(keeper)
    assert found["orphan"][:2] == ("orphan", "stop")
    assert found["owned"][:2] == ("owned", "keep")
    assert not is_alive(orphan)
    assert is_alive(owned)
    assert is_alive(living.pid)


def test_only_one_gateways_leftovers_where_it_is_named(keeper: Scopekeeper, session: str) -> None:
    one = gateway(keeper, session + "1", "first")
    two = gateway(keeper, session + "2", "second")
    first, second = member("first"), member("second")
    end(one)
    end(two)
    reconcile(keeper, "--owner", str(one.pid))
    assert not is_alive(first)
    assert is_alive(second)


def test_only_one_gateways_leftovers_where_both_shared_a_scope(
    keeper: Scopekeeper, session: str
) -> None:
    one, two = gateway(keeper, session, "first"), gateway(keeper, session, "second")
    first, second = member("first"), member("second")
    assert os.path.dirname(directory_of(first)) == os.path.dirname(directory_of(second))
    end(one)
    end(two)
    assert reconcile(keeper, "--owner", str(one.pid))["first"][:2] == ("orphan", "stop")
    assert not is_alive(first)
    assert is_alive(second)
    reconcile(keeper, "--owner", str(two.pid))
    assert not is_alive(second)


def test_a_reused_pid_is_no_owner(keeper: Scopekeeper, session: str) -> None:
    innocent = keeper.popen(["sleep", "infinity"])
    process = keeper.member("-s", session, "--owner", str(innocent.pid), "--", *FOREVER)
    leaf = directory_of(process.pid)
    rewrite_record(leaf, OWNER_START=str(int(record_of(leaf)["OWNER_START"]) - 1))
    class_, action, evidence = reconcile(keeper)["*"]
    assert (class_, action) == ("orphan", "stop")
    assert "another's" in evidence
    assert process.wait() == -signal.SIGTERM
    assert is_alive(innocent.pid)


@pytest.mark.parametrize(
    "changes",
    [
        {"NAMESPACES": "1/2"},
        {"BOOT": "00000000-0000-0000-0000-000000000000"},
        {"OWNER_PID": "", "OWNER_START": ""},
        {"OWNER_PID": "-1"},
        {"OWNER_PID": "not a number"},
    ],
    ids=["another container", "another boot", "no owner", "all processes", "nonsense"],
)
def test_an_owner_that_cannot_be_looked_at_is_not_taken_for_dead(
    keeper: Scopekeeper, session: str, changes: dict[str, str]
) -> None:
    owner = keeper.popen(["sleep", "infinity"])
    process = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    rewrite_record(directory_of(process.pid), **changes)
    end(owner)
    ((class_, action, evidence),) = reconcile(keeper).values()
    assert action in ("keep", "report"), (class_, action, evidence)
    assert evidence
    assert is_alive(process.pid)


def test_what_a_server_leaves_ends_after_its_grace_and_what_a_command_leaves_is_reported(
    keeper: Scopekeeper, session: str
) -> None:
    script = ("--", "sh", "-c", "setsid sleep infinity & :")
    for name, *kind in (("server",), ("command", "--kind", "exec")):
        assert keeper.start("-s", session, "-n", name, *kind, *script).wait() == 0
    server, command = member("server"), member("command")
    assert is_alive(server)
    assert is_alive(command)
    found = reconcile(keeper)
    assert found["server"][:2] == ("leaderless", "keep")
    assert "ends in 10s" in found["server"][2]
    assert found["command"][:2] == ("leaderless", "report")
    # as if the ten seconds were over: a mark says since when, and 1 is soon after the boot
    rewrite_record(directory_of(server), LEADERLESS="1")
    assert reconcile(keeper)["server"][:2] == ("leaderless", "stop")
    assert not is_alive(server)
    assert is_alive(command)


THREADS = """
import ctypes, os, sys, threading, time
if os.fork() == 0:  # in the same leaf
    time.sleep(3600)
threading.Thread(target=time.sleep, args=(3600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.parametrize("part", ["command", "owner"])
def test_who_lost_only_the_main_thread_has_not_ended(
    keeper: Scopekeeper, session: str, part: str
) -> None:
    argv = (sys.executable, "-c", THREADS)
    if part == "owner":
        shown = keeper.popen(list(argv))
        owner = ("--owner", str(shown.pid))
        process = keeper.member("-s", session, "-n", "it", *owner, "--", *FOREVER)
    else:
        shown = process = keeper.member("-s", session, "-n", "it", "--", *argv)
    threads = f"/proc/{shown.pid}/task"
    try:
        eventually(lambda: state_of(shown.pid) == "Z" and len(os.listdir(threads)) > 1)
        found = reconcile(keeper)["it"]
        assert found[:2] == ("owned", "keep"), found
        assert state_of(shown.pid) == "Z"
        assert process.poll() is None
    finally:
        # cgroup.kill, as of Linux 6.18, signals the main thread alone, which has ended; `stop`
        # knows that, but one of the two is in no scope
        for pid in {shown.pid, *processes(directory_of(process.pid))}:
            os.kill(pid, signal.SIGKILL)


def test_a_command_that_moved_on_has_not_ended_and_its_helpers_stay(
    keeper: Scopekeeper, session: str
) -> None:
    inner = shlex.join(keeper.argv("-s", f"{session}:inner", "-n", "inner", "--", *FOREVER))
    script = f"setsid sleep infinity & exec {inner}"
    outer = keeper.start("-s", session, "-n", "outer", "--", "sh", "-c", script)
    eventually(lambda: "SCOPEKEEPER_MEMBER" in environment_of(outer.pid)
               and record_of(directory_of(outer.pid)).get("NAME") == "inner")  # fmt: skip
    assert reconcile(keeper)["outer"][:2] == ("owned", "keep")
    assert len(processes(scope_directory(session))) == 1
    outer.kill()
    outer.wait()
    assert reconcile(keeper)["outer"][:2] == ("leaderless", "keep")


@pytest.mark.parametrize("lifetime", ["session", "detached"])
def test_what_was_to_outlive_its_gateway_does(
    keeper: Scopekeeper, session: str, lifetime: str
) -> None:
    end(gateway(keeper, session, "stays", options=("--lifetime", lifetime)))
    pid = member("stays")
    (found,) = reconcile(keeper).values()
    assert found[1] == "keep"
    assert is_alive(pid)


def test_a_scope_whose_time_is_over_ends_by_itself(keeper: Scopekeeper, session: str) -> None:
    process = keeper.member("-s", session, "--ttl", "1s", "--", *FOREVER)
    assert process.wait(60) == -signal.SIGTERM
    eventually(lambda: not scope_directories())


def test_a_detached_scope_ends_at_the_age_that_was_given_for_it_and_ls_shows_when(
    keeper: Scopekeeper, session: str
) -> None:
    options = ("--lifetime", "detached", "--ttl", "3s")
    process = keeper.member("-s", session, *options, "--", *FOREVER)
    (scope,) = keeper.scopes("-s", session)
    assert scope["ends"] == "later"
    assert 0 < scope["ends_in_s"] <= 3
    assert process.wait(60) == -signal.SIGTERM
    eventually(lambda: not scope_directories())


def test_reconcile_ends_a_scope_whose_time_is_over(keeper: Scopekeeper, session: str) -> None:
    process = keeper.member("-s", session, "--", *FOREVER)
    rewrite_record(os.path.dirname(directory_of(process.pid)), TTL="1000")
    assert reconcile(keeper)["*"][:2] == ("expired", "stop")
    assert process.wait() == -signal.SIGTERM


def test_a_crashed_services_members_are_gone_at_the_latest_after_reconcile(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    name = f"crashing-{session[-8:]}.service"
    inner = shlex.join(keeper.argv("-s", session, "-n", "server", "--", *FOREVER))
    units.run(name, command=("sh", "-c", f"setsid {inner} & wait"))
    pid = eventually(lambda: member("server"))
    os.kill(main_pid(name), signal.SIGKILL)
    eventually(lambda: state(name) in ("failed", "inactive"))
    reconcile(keeper)
    eventually(lambda: not is_alive(pid))


def test_a_restarted_services_earlier_members_go_and_its_new_ones_stay(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    name = f"restarting-{session[-8:]}.service"
    inner = shlex.join(keeper.argv("-s", session, "-n", "server", "--", *FOREVER))
    units.run(name, command=("sh", "-c", f"setsid {inner} & exec sleep infinity"))
    old = eventually(lambda: member("server"))
    epoch = show(name, "InvocationID")
    assert systemctl("restart", name).returncode == 0
    assert show(name, "InvocationID") != epoch

    def newest() -> int:
        reconcile(keeper)
        alive = [pid for scope in scope_directories() for pid in processes(scope)]
        return alive[0] if len(alive) == 1 and alive[0] != old else 0

    new = eventually(newest)
    assert not is_alive(old)
    for _ in range(3):
        reconcile(keeper)
    assert is_alive(new)


def test_two_gateways_with_the_same_session_never_touch_each_other(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    for name in ("alpha", "beta"):
        inner = shlex.join(keeper.argv("-s", session, "-n", name, "--", *FOREVER))
        script = f"setsid {inner} & exec sleep infinity"
        units.run(f"{name}-{session[-8:]}.service", command=("sh", "-c", script))
        eventually(lambda name=name: member(name))
    alpha, beta = member("alpha"), member("beta")
    os.kill(main_pid(f"alpha-{session[-8:]}.service"), signal.SIGKILL)
    eventually(lambda: state(f"alpha-{session[-8:]}.service") in ("failed", "inactive"))
    reconcile(keeper)
    eventually(lambda: not is_alive(alpha))
    assert is_alive(beta)
    assert state(cgroup_of(beta).split("/")[-2]) == "active"
    assert systemctl("stop", f"beta-{session[-8:]}.service").returncode == 0
    eventually(lambda: not is_alive(beta))


def test_a_member_that_joined_meanwhile_is_spared(keeper: Scopekeeper, session: str) -> None:
    end(gateway(keeper, session, "old"))
    joined = keeper.start("-s", session, "-n", "joined", "--", *FOREVER)
    reconcile(keeper)
    wait_for_command(joined)
    reconcile(keeper)
    assert is_alive(joined.pid)
    assert not member("old")


class Interrupted(Reader):
    """A reader after whose every look at a scope something else happens."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__(MOUNT)
        self._then = then

    def again(self) -> "Interrupted":
        return self

    def scope(self, directory: str, only_uid: int | None = None) -> Scope | None:
        found = super().scope(directory, only_uid)
        self._then()
        return found


@pytest.mark.parametrize("beside", ["an orphan", "another gateway's member"])
def test_a_member_that_is_adopted_after_the_last_look_is_spared(
    keeper: Scopekeeper, session: str, beside: str
) -> None:
    """Whether the plan was to stop its whole scope or it alone."""
    names = ("taken", "left") if beside == "an orphan" else ("taken",)
    end(gateway(keeper, session, *names))
    if beside != "an orphan":
        keeper.member("-s", session, "-n", "other", "--", *FOREVER)
    taken, left = member("taken"), member("left")
    snapshot = Reader(MOUNT).snapshot(uid=os.getuid())
    orphans = [each for each in plan(snapshot, Policy()) if each.step.value == "stop"]
    assert [each.member is None for each in orphans] == [beside == "an orphan"]

    def adopt() -> None:
        done = keeper.call("adopt", "-s", session, "-n", "taken", "--owner", str(os.getpid()))
        assert done.returncode == 0, done.stderr

    (done,) = carry_out.apply(
        orphans, Policy(), Interrupted(adopt), snapshot, [], step_out=lambda: None
    )
    assert done.outcome == "changed meanwhile"
    assert done.result is not None
    assert done.result.problem == "it has got another owner"
    reconcile(keeper)
    assert is_alive(taken)
    assert not (left and is_alive(left))
