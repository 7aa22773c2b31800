"""One end has one reason, one name and one number of processes, wherever it is reported."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    ROOT,
    Scopekeeper,
    children_of,
    directory_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directory,
    text_of,
)

from .guard import Keeper
from .manager import Units, main_pid, state, systemctl

pytestmark = pytest.mark.systemd

QUIET = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"
DEAF = 'trap "" TERM; echo ready; while :; do sleep 1000; done'
LINGERING = 'trap "" TERM; while :; do sleep 1000; done'
"""A helper of the gateway, outside of every scope."""


@pytest.fixture
def gateway(units: Units, guard: Keeper, session: str) -> Callable[..., str]:
    """Start a service with three servers, and return its name when all of them run."""

    def start(
        *properties: str,
        prefix: str = "",
        helper: str = "",
        stdin: str = "",
        with_keeper: bool = True,
    ) -> str:
        unit = f"gateway-{session[-8:]}.service"
        servers = {"plain": "echo ready; exec sleep infinity", "quiet": QUIET, "deaf": DEAF}
        lines = [
            f"{'sleep infinity |' if stdin else ''} {PROGRAM} run -s {session} -n {name} "
            f"{'--kind mcp' if stdin else ''} --grace 1s -- sh -c {shlex.quote(script)} &"
            for name, script in servers.items()
        ]
        lines += [f"sh -c {shlex.quote(helper)} &"] if helper else []
        script = guard.home / "gateway.sh"
        script.write_text("\n".join([*lines, "while :; do sleep 1; done", ""]))
        environment = [f"--setenv=SCOPEKEEPER_{name}={value}" for name, value in
                       (("STATE", guard.state), ("CONFIG", guard.rules))]  # fmt: skip
        units.run(unit, *environment, *properties, command=(*prefix.split(), "bash", str(script)))
        if with_keeper:
            eventually(lambda: set(guard.living()) >= set(servers))
        eventually(lambda: all_run(session))
        return unit

    return start


def all_run(session: str) -> bool:
    """Return whether each server runs, with its handler in place."""
    directory = scope_directory(session)
    pids = [record_of(f"{directory}/{leaf}").get("PID", "0") for leaf in leaves(directory)]
    names = [text_of(f"/proc/{pid}/comm").strip() for pid in pids]
    busy = [pid for pid in pids if children_of(int(pid))]
    return [names.count(each) for each in ("sh", "sleep")] == [2, 1] and len(busy) >= 2


def kill(unit: str, pid: int = 0) -> None:
    """Kill the main process of a service, or the one with this pid."""
    os.kill(pid or main_pid(unit), signal.SIGKILL)


def servers(guard: Keeper, session: str) -> dict[str, tuple[object, object]]:
    """Wait for the ends of the three servers; return the reason and evidence of each."""

    def ended() -> dict[str, tuple[object, object]]:
        ends = guard.history(session)
        return {str(e["member"]): (e["reason"], e["evidence"]) for e in ends if e["member"] != "gw"}

    return eventually(lambda: len(found := ended()) == 3 and found)


def all_of(unit: str, how: str = "was killed (signal 9)") -> dict[str, tuple[object, object]]:
    """Return the one reason and evidence of each of the three servers."""
    return dict.fromkeys(("plain", "quiet", "deaf"), ("owner gone", f"{unit} {how}"))


@pytest.mark.parametrize("how", ["kill", "kill, and it is started again", "stop"])
def test_one_end_of_a_gateway_is_one_reason_in_each_row(
    gateway: Callable[..., str], guard: Keeper, session: str, how: str
) -> None:
    guard.start()
    again = ("--property=Restart=always", "--property=RestartSec=100ms")
    unit = gateway(*again if "again" in how else ())
    if how == "stop":
        assert systemctl("stop", unit).returncode == 0
        assert servers(guard, session) == all_of(unit, "has stopped")
    else:
        kill(unit)
        assert servers(guard, session) == all_of(unit)


@pytest.mark.parametrize("with_keeper", [True, False])
def test_the_drop_in_of_a_gateway_gives_the_same_reason(
    gateway: Callable[..., str], guard: Keeper, session: str, with_keeper: bool
) -> None:
    """Nobody asked for it: its ExecStopPost= stops what the gateway has left.

    Without a keeper, nobody sees how those ended that systemd had ended before.
    """
    unit = f"gateway-{session[-8:]}.service"
    stops = f"stop --owner {unit} --lifetime gateway --note '{unit} has ended: ${{SERVICE_RESULT}}'"
    if with_keeper:
        guard.start()
    gateway(f"--property=ExecStopPost=-{PROGRAM} {stops}", with_keeper=with_keeper)
    kill(unit)
    found = servers(guard, session)
    if with_keeper:
        assert found == all_of(unit)
        return
    assert found["deaf"] == all_of(unit)["deaf"]
    unseen = ("unknown", "it ended before anyone looked")
    for each in ("plain", "quiet"):
        assert found[each] in (all_of(unit)[each], unseen)


def test_without_a_keeper_an_unseen_end_names_that_of_its_gateway(
    units: Units, guard: Keeper, session: str
) -> None:
    """Its scope is gone before the gateway's ExecStopPost= looks, and the gateway is not yet."""
    unit = f"gateway-{session[-8:]}.service"
    deaf = shlex.join([PROGRAM, "run", "-s", f"{session}:2", "-n", "deaf", "--grace", "1s", "--",
                       "sh", "-c", DEAF])  # fmt: skip
    plain = shlex.join([PROGRAM, "run", "-s", session, "-n", "plain", "--", *FOREVER])
    script = f"{plain} & {deaf} & while :; do sleep 1; done"
    stops = f"stop --owner {unit} --lifetime gateway --note '{unit} has ended: ${{SERVICE_RESULT}}'"
    units.run(
        unit, f"--setenv=SCOPEKEEPER_STATE={guard.state}",
        f"--property=ExecStopPost=-{PROGRAM} {stops}", command=("bash", "-c", script),
    )  # fmt: skip
    eventually(lambda: len(processes(scope_directory(f"{session}:2"))) == 2)
    eventually(lambda: "sleep" in {text_of(f"/proc/{pid}/comm").strip()
                                   for pid in processes(scope_directory(session))})  # fmt: skip
    kill(unit)
    eventually(lambda: state(unit) == "failed")  # `history` would record the end before that
    (end,) = guard.ends(session)
    killed = f"{unit} was killed (signal 9)"
    unseen = f"it ended before anyone looked, and so did its owner: {killed}"
    assert (end["reason"], end["evidence"]) in (("unknown", unseen), ("owner gone", killed))
    (end,) = guard.ends(f"{session}:2")
    assert (end["reason"], end["evidence"]) == ("owner gone", killed)


def test_a_request_in_the_name_of_a_gateway_is_a_request(
    gateway: Callable[..., str], guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    """What its ExecStopPost= has in its environment proves nothing."""
    guard.start()
    unit = gateway()
    facts = {"SERVICE_RESULT": "signal", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}
    done = keeper.call("stop", "--owner", unit, env={**os.environ, **facts})
    assert done.returncode == 0
    assert {reason for reason, _ in servers(guard, session).values()} == {"stopped by request"}


def test_what_is_left_of_a_killed_gateway_is_not_abandoned(
    gateway: Callable[..., str], guard: Keeper, session: str
) -> None:
    """Its service stays active until the deaf one has ended: systemd waits for its whole cgroup."""
    guard.policy('[lanes.default]\nabandoned_grace = "1s"\nleader_grace = "1s"\n')
    guard.start()
    prefix = f"{PROGRAM} run -s {session} -n gw --"
    inside = ("--property=Delegate=yes", "--property=TimeoutStopSec=300s")
    unit = gateway(*inside, prefix=prefix, stdin="pipe")
    kill(unit)
    assert servers(guard, session) == all_of(unit)


def test_each_row_names_the_gateway_whose_helpers_take_long_to_stop(
    gateway: Callable[..., str], guard: Keeper, session: str
) -> None:
    guard.start()
    unit = gateway("--property=TimeoutStopSec=8s", helper=LINGERING)
    kill(unit)
    assert servers(guard, session) == all_of(unit)


def test_a_killed_gateway_inside_its_own_scope_is_no_end_of_its_owner(
    gateway: Callable[..., str], guard: Keeper, session: str
) -> None:
    guard.start()
    prefix = f"{PROGRAM} run -s {session} -n gw --"
    unit = gateway("--property=Delegate=yes", "--property=TimeoutStopSec=2s", prefix=prefix)
    kill(unit)
    assert servers(guard, session) == all_of(unit)

    def own() -> list[dict[str, object]]:
        return [each for each in guard.history(session) if each["member"] == "gw"]

    (end,) = eventually(own)
    assert (end["reason"], end["signal"]) == ("signalled", signal.SIGKILL)


def test_what_exits_while_its_gateway_runs_on_has_exited(
    gateway: Callable[..., str], guard: Keeper, session: str
) -> None:
    guard.start()
    gateway()
    (quiet,) = [
        pid
        for pid in processes(scope_directory(session))
        if "/m-quiet." in directory_of(pid) and "sh" in os.readlink(f"/proc/{pid}/exe")
    ][:1]
    os.kill(quiet, signal.SIGTERM)
    (end,) = guard.ends(session)
    assert (end["member"], end["reason"], end["exit_status"]) == ("quiet", "exited", 0)


@pytest.mark.parametrize("stops", [False, True], ids=["by itself", "with the service"])
def test_what_a_process_of_a_service_owns_ends_with_that_service_only_if_it_stops(
    guard: Keeper, units: Units, session: str, *, stops: bool
) -> None:
    """As under a terminal's unit: what starts it is a shell, which ends before, or with it."""
    guard.start()
    unit = f"terminal-{session[-8:]}.service"
    command = "sleep infinity" if stops else "sleep 0.5; exit 7"
    server = shlex.join([PROGRAM, "run", "-s", session, "-n", "x", "--", "sh", "-c", command])
    shell = shlex.join(["bash", "-c", f"{server}; exit 0"])
    environment = [f"--setenv=SCOPEKEEPER_STATE={guard.state}", "--setenv=A=1"]
    units.run(unit, *environment, command=("sh", "-c", f"env B=1 {shell}; sleep infinity"))
    if stops:
        eventually(lambda: guard.living() == ["x"])
        assert systemctl("stop", unit).returncode == 0
    (end,) = guard.ends(session)
    if stops:
        assert end["reason"] == "owner gone"
    else:
        assert (end["reason"], end["exit_status"]) == ("exited", 7)
        assert state(unit) == "active"


def entries(session: str) -> dict[str, list[dict[str, str]]]:
    """Return the journal's entries about the ends in a session, by member."""
    shown = subprocess.run(
        ["journalctl", *([] if ROOT else ["--user"]), "--quiet", "--output=json",
         f"SCOPEKEEPER_SESSION={session}"], capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, list[dict[str, str]]] = {}
    for line in shown.stdout.splitlines():
        entry = json.loads(line)
        name = entry["SCOPEKEEPER_MEMBER"].removeprefix("m-").rpartition(".")[0]
        found.setdefault(name, []).append(entry)
    return found


@pytest.mark.parametrize("also", ["nobody", "reconcile", "stop"])
def test_the_journal_has_one_entry_for_each_end(
    guard: Keeper, keeper: Scopekeeper, session: str, also: str
) -> None:
    guard.start()
    keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    # older than a scope that may just be created, whose empty leaves a keeper leaves alone
    script = "sleep 3.5; exit 7"
    failing = keeper.start("-s", session, "-n", "failing", "--", "sh", "-c", script)
    eventually(lambda: os.waitid(os.P_PID, failing.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    if also == "reconcile":
        assert keeper.call("reconcile").returncode == 0
    elif also == "stop":
        assert keeper.call("stop", "-s", session, "--reason", "over").returncode == 0
    assert failing.wait() == 7
    last = keeper.member("-s", session, "-n", "last", "--", *FOREVER)
    assert keeper.call("stop", "-s", session, "--reason", "over").returncode == 0
    assert last.wait() == -signal.SIGTERM
    found = eventually(lambda: {"last", "failing"} <= (e := entries(session)).keys() and e)
    assert [each["SCOPEKEEPER_REASON"] for each in found["failing"]] == ["exited"], found["failing"]
    assert all(len(each) == 1 for each in found.values())


SHRINKING = """
import signal, subprocess, sys
helpers = [subprocess.Popen(["sleep", "infinity"]) for _ in range(5)]
print("ready", flush=True)
sys.stdin.readline()
for each in helpers:
    each.kill()
    each.wait()
print("alone", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("has_keeper", [False, True])
def test_one_number_of_processes_in_each_report(
    guard: Keeper, keeper: Scopekeeper, session: str, has_keeper: bool
) -> None:
    if has_keeper:
        guard.start()
    shrinking = keeper.start(
        "-s", session, "-n", "shrinking", "--", sys.executable, "-c", SHRINKING,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert shrinking.stdout is not None
    assert shrinking.stdout.readline() == b"ready\n"
    # a keeper looks at the scope, and sees six processes
    keeper.member("-s", session, "-n", "other", "--", *FOREVER)
    if has_keeper:
        eventually(lambda: set(guard.living()) == {"shrinking", "other"})
    assert shrinking.stdin is not None
    shrinking.stdin.write(b"\n")
    shrinking.stdin.flush()
    assert shrinking.stdout.readline() == b"alone\n"
    done = keeper.call("stop", "-s", session, "--json")
    (stopped,) = json.loads(done.stdout)["stopped"]
    assert (stopped["processes"], stopped["killed"]) == (2, 0)
    ends = eventually(lambda: len(found := guard.history(session)) == 2 and found)
    assert {e["member"]: e["processes"] for e in ends} == {"shrinking": 1, "other": 1}
    shown = keeper.call("why", session).stdout
    assert shown.count("; 1 process ended") == 2
    found = eventually(lambda: len(e := entries(session)) == 2 and e)
    assert {name: each[0]["SCOPEKEEPER_PROCESSES"] for name, each in found.items()} == {
        "shrinking": "1", "other": "1",
    }  # fmt: skip


def being_ended(keeper: Scopekeeper, session: str, grace: str) -> subprocess.Popen[bytes]:
    """Start two members, end their owner, and wait until the keeper is ending the second.

    Of its four processes two end on SIGTERM.
    """
    owner = keeper.popen(list(FOREVER))
    words = ("-s", session, "--grace", grace, "--owner", str(owner.pid), "-n")
    plain = keeper.member(*words, "plain", "--", *FOREVER)
    script = f"sleep infinity & sleep infinity & {DEAF}"
    deaf = keeper.start(*words, "deaf", "--", "sh", "-c", script, stdout=subprocess.PIPE)
    assert deaf.stdout is not None
    assert deaf.stdout.readline() == b"ready\n"
    inside = directory_of(deaf.pid)
    eventually(lambda: len(processes(inside)) == 4)
    owner.kill()
    owner.wait()
    assert plain.wait() == -signal.SIGTERM
    eventually(lambda: record_of(scope_directory(session)).get("STATE") == "stopping")
    eventually(lambda: len(processes(inside)) == 2)
    return deaf


def test_the_first_cause_holds_when_somebody_stops_what_is_being_ended(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    deaf = being_ended(keeper, session, "590s")
    stop = keeper.call("stop", "-s", session, "--grace", "0", "--note", "hurry up")
    assert stop.returncode == 0
    assert not is_alive(deaf.pid)
    ends = eventually(lambda: len(found := guard.history(session)) == 2 and found)
    assert {each["reason"] for each in ends} == {"owner gone"}
    (late,) = [each for each in ends if each["member"] == "deaf"]
    proof, _, also = str(late["evidence"]).partition("; meanwhile also ")
    assert proof.endswith(" has ended")
    assert also.startswith("asked for by ")
    assert also.endswith(": hurry up")
    assert late["stopper"]["command"] == "scopekeeper", "the keeper, which was first"
    assert (late["processes"], late["killed"]) == (4, 2)
    assert "; 4 processes terminated, 2 of them killed" in stop.stdout
    assert "; 4 processes ended, 2 of them by SIGKILL" in keeper.call("why", session).stdout
    (entry,) = eventually(lambda: entries(session).get("deaf"))
    assert (entry["SCOPEKEEPER_PROCESSES"], entry["SCOPEKEEPER_KILLED"]) == ("4", "2")


def test_a_second_stop_does_not_take_the_cause_of_the_first(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    deaf = keeper.start("-s", session, "--", "sh", "-c", DEAF, stdout=subprocess.PIPE)
    assert deaf.stdout is not None
    assert deaf.stdout.readline() == b"ready\n"
    argv = [PROGRAM, "stop", "-s", session, "--grace", "1000s", "--note", "first"]
    first = keeper.popen(argv, stdout=subprocess.DEVNULL)
    eventually(lambda: record_of(scope_directory(session)).get("STATE") == "stopping")
    for note in ("second", "third"):
        argv = [PROGRAM, "stop", "-s", session, "--grace", "1000s", "--note", note]
        keeper.popen(argv, stdout=subprocess.DEVNULL)
        eventually(lambda: "second" in record_of(scope_directory(session))["REASON"])
    assert keeper.call("stop", "-s", session, "--grace", "0").returncode == 0
    assert first.wait() == 0
    (end,) = eventually(lambda: guard.history(session))
    text = str(end["evidence"])
    assert (end["reason"], text.count("meanwhile also")) == ("stopped by request", 1)
    assert text.index("first") < text.index("second")
