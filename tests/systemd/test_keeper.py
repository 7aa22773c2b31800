"""The keeper does at once what reconcile finds later; whatever happens to it is harmless."""

import contextlib
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopekeeper.scope.names import unit_name
from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
    scope_directory,
    signal_set,
    sleeps,
    text_of,
)

from .bus import BUS, allowed, busctl
from .guard import UNIT, Keeper
from .manager import SLICE, Units, main_pid, show, systemctl

pytestmark = pytest.mark.systemd


def gateway(keeper: Scopekeeper) -> "subprocess.Popen[bytes]":
    """Start a process that owns something and does nothing."""
    return keeper.popen(list(FOREVER))


def see_it_act(guard: Keeper, keeper: Scopekeeper, session: str) -> None:
    """Lose another gateway and wait until the keeper has ended what it left and written it down.

    The keeper has then acted on everything that happened before.
    """
    name = f"{session}:marker:{os.urandom(2).hex()}"
    owner = gateway(keeper)
    left = keeper.member("-s", name, "-l", "marker", "--owner", str(owner.pid), "--", *FOREVER,
                         stderr=subprocess.DEVNULL)  # fmt: skip
    owner.kill()
    owner.wait()
    assert left.wait(PATIENCE) == -signal.SIGTERM
    assert guard.ends(name)


def test_what_a_gateway_leaves_ends_at_once(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    owner = gateway(keeper)
    script = "setsid sleep 1000 & exec sleep 1000"
    member = keeper.member("-s", session, "-n", "time", "--owner", str(owner.pid), "--",
                           "sh", "-c", script)  # fmt: skip
    scope = scope_directory(session)
    eventually(lambda: len(processes(scope)) == 2)
    owner.kill()
    owner.wait()
    eventually(lambda: not os.path.isdir(scope))
    assert member.wait(PATIENCE) == -signal.SIGTERM
    (end,) = guard.ends(session)
    assert (end["reason"], end["member"]) == ("owner gone", "time")
    assert f"process {owner.pid} has ended" in str(end["evidence"])
    assert str(end["argv"]).count("sleep")  # of before or after its exec


def test_members_of_living_gateways_in_the_same_scope_stay(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    one, two = gateway(keeper), gateway(keeper)
    mine = keeper.member("-s", session, "-n", "a", "--owner", str(one.pid), "--", *FOREVER)
    other = keeper.member("-s", session, "-n", "b", "--owner", str(two.pid), "--", *FOREVER)
    one.kill()
    one.wait()
    assert mine.wait(PATIENCE) == -signal.SIGTERM
    eventually(lambda: len(leaves(scope_directory(session))) == 1)
    assert other.poll() is None


@pytest.mark.parametrize("kill_mode", ["control-group", "mixed", "process"])
@pytest.mark.parametrize("how", ["stop", "restart", "crash"])
def test_what_a_service_started_ends_with_it_however_it_ends(
    guard: Keeper, keeper: Scopekeeper, units: Units, session: str, how: str, kill_mode: str
) -> None:
    guard.start()
    name = f"gateway-{session[-8:]}.service"
    launch = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    again = guard.home / "started"
    units.write(
        name,
        f"""\
[Service]
KillMode={kill_mode}
Restart=on-failure
RestartSec=100ms
Environment=PATH={os.environ["PATH"]}
ExecStart=/bin/sh -c 'if [ ! -e {again} ]; then {launch} & fi; touch {again}; exec sleep 1000'
""",
    )
    assert systemctl("start", name).returncode == 0
    scope = eventually(lambda: scope_directory(session))
    (member,) = eventually(lambda: processes(scope))
    eventually(lambda: text_of(f"/proc/{member}/comm") == "sleep\n")
    eventually(guard.living)
    if how == "crash":
        os.kill(main_pid(name), signal.SIGKILL)
    else:
        assert systemctl(how, name).returncode == 0
    eventually(lambda: not is_alive(member))
    if how != "stop":
        eventually(lambda: show(name, "ActiveState") == "active")
    (end,) = guard.ends(session)
    assert end["reason"] == "owner gone", str(end)


def test_a_gateway_in_a_crash_loop_leaves_one_generation_at_most(
    guard: Keeper, keeper: Scopekeeper, units: Units, session: str
) -> None:
    guard.start()
    name = f"gateway-{session[-8:]}.service"
    launch = shlex.join(keeper.argv("-s", session, "-n", "m", "--", *FOREVER))
    units.write(
        name,
        f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
KillMode=process
Restart=always
RestartSec=50ms
Environment=PATH={os.environ["PATH"]}
ExecStart=/bin/sh -c '{launch} & echo >> {guard.home}/starts; sleep 0.3; kill -9 $$$$'
""",
    )
    systemctl("start", name)
    eventually(lambda: text_of(guard.home / "starts").count("\n") >= 6)
    systemctl("stop", name)
    eventually(lambda: not scope_directories())
    assert {str(end["reason"]) for end in guard.ends(session)} == {"owner gone"}


def test_what_its_lane_keeps_waits_for_another_gateway_and_then_ends(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    rules = '[lanes.main]\norphan_grace = "1s"\n[lanes.patient]\norphan_grace = "{}"\n'
    guard.policy(rules.format("1000s"))
    guard.start()
    former, new = gateway(keeper), gateway(keeper)
    owner = ("--owner", str(former.pid), "--")
    adopted = keeper.member("-s", session, "-l", "patient", *owner, *FOREVER)
    left = keeper.member("-s", session, *owner, *FOREVER)
    began = time.monotonic()
    former.kill()
    former.wait()
    assert left.wait(PATIENCE) == -signal.SIGTERM
    assert time.monotonic() - began > 1
    done = keeper.call("adopt", "-s", session, "--owner", str(new.pid))
    assert done.returncode == 0, done.stdout
    guard.policy(rules.format("100ms"))
    os.kill(guard.pid, signal.SIGHUP)
    see_it_act(guard, keeper, session)
    assert adopted.poll() is None
    new.kill()
    new.wait()
    assert adopted.wait(PATIENCE) == -signal.SIGTERM


def test_what_a_server_leaves_behind_ends_after_its_grace(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.policy('[lanes.default.mcp]\nleader_grace = "500ms"\n')
    guard.start()
    done = keeper.start("-s", session, "--", "sh", "-c", "setsid sleep 1000 & exec sleep 0.2")
    assert done.wait(PATIENCE) == 0
    eventually(lambda: not scope_directories())
    (end,) = guard.ends(session)
    assert end["reason"] == "leader exited"


def test_a_rule_holds_from_when_it_is_written(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.policy("")
    where = {"SCOPEKEEPER_CONFIG": str(guard.rules), "SCOPEKEEPER_STATE": str(guard.state)}
    program = [PROGRAM, "keeper", "--linger", "infinity"]
    pid = keeper.popen(program, env={**os.environ, **where}, stderr=subprocess.DEVNULL).pid
    eventually(lambda: signal_set(pid, "SigCgt") >> (signal.SIGTERM - 1) & 1)
    script = "setsid sleep 1000 & exec sleep 0.2"
    done = keeper.start("-s", session, "--kind", "exec", "--", "sh", "-c", script)
    assert done.wait(PATIENCE) == 0
    eventually(lambda: sleeps(pid))  # what the command left lingers
    guard.policy('[lanes.default]\non_leader_exit = "stop"\nleader_grace = "100ms"\n')
    (end,) = guard.ends(session)
    assert end["reason"] == "leader exited"


def test_each_attempt_has_its_own_reason(guard: Keeper, keeper: Scopekeeper, session: str) -> None:
    guard.start()
    attempts = {
        "exit 1": ("exited", 1, None), "exit 2": ("exited", 2, None),
        "kill -9 $$": ("signalled", None, 9), "kill -6 $$": ("signalled", None, 6),
        "exit 0": ("exited", 0, None), "exit 3": ("exited", 3, None),
    }  # fmt: skip
    runs = [
        keeper.start("-s", session, "-n", f"try{number}", "--", "sh", "-c", f"sleep 0.1; {script}")
        for number, script in enumerate(attempts)
    ]
    for run in runs:
        run.wait(PATIENCE)
    ends = eventually(lambda: len(ends := guard.history(session)) >= len(attempts) and ends)
    ends.sort(key=lambda end: str(end["member"]))
    told = [(end["reason"], end["exit_status"], end["signal"]) for end in ends]
    assert told == list(attempts.values())
    done = keeper.call("why", session)
    assert done.returncode == 0
    assert len([line for line in done.stdout.splitlines() if "try" in line]) == len(attempts)


def test_the_keepers_death_ends_nothing_and_the_next_one_goes_on(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    owner = gateway(keeper)
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    for _ in range(3):
        first = guard.pid
        os.kill(first, signal.SIGKILL)
        eventually(lambda first=first: guard.pid not in (0, first))
        assert member.poll() is None
    os.kill(guard.pid, signal.SIGSTOP)
    owner.kill()
    owner.wait()
    os.kill(guard.pid, signal.SIGKILL)
    assert member.wait(PATIENCE) == -signal.SIGTERM, "what happened meanwhile is found"


def test_a_stop_whose_keeper_was_killed_is_finished_by_the_next(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    owner = gateway(keeper)
    member = keeper.member(
        "-s", session, "--grace", "2s", "--owner", str(owner.pid), "--",
        "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done",
    )  # fmt: skip
    eventually(lambda: signal_set(member.pid, "SigIgn") >> (signal.SIGTERM - 1) & 1)
    scope = scope_directory(session)
    owner.kill()
    owner.wait()
    eventually(lambda: "STATE" in record_of(scope), pause=0.002)
    os.kill(guard.pid, signal.SIGKILL)
    assert member.wait(PATIENCE) == -signal.SIGKILL
    eventually(lambda: not os.path.isdir(scope))
    (end,) = guard.ends(session)
    assert end["reason"] == "owner gone"


def test_what_ended_while_no_keeper_watched_is_not_forgotten(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    gone = keeper.member("-s", session, "-n", "gone", "--", *FOREVER)
    there = keeper.member("-s", session, "-n", "there", "--", *FOREVER)
    database = guard.state / "history.db"
    eventually(lambda: living(database) == {"gone", "there"})
    assert systemctl("stop", UNIT).returncode == 0
    gone.kill()
    gone.wait()
    guard.start()
    (end,) = eventually(lambda: guard.history(session))
    assert (end["member"], end["reason"], end["pid"]) == ("gone", "unknown", gone.pid)
    assert "watched" in str(end["evidence"])
    assert there.poll() is None
    assert living(database) == {"there"}


def living(database: Path) -> set[str]:
    """Return the names of the members that the history takes for alive."""
    if not database.exists():
        return set()
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT * FROM sqlite_schema").fetchall():
            return set()  # just being made
        return {name for (name,) in connection.execute("SELECT name FROM living")}


def test_it_leaves_when_there_is_nothing_to_keep_and_not_before(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    guard.start("--linger", "0s")  # it leaves as soon as it may
    first = guard.pid
    see_it_act(guard, keeper, session)
    assert guard.pid == first
    assert is_alive(first)
    keeper.call("stop", "-s", session)
    assert member.wait(PATIENCE) == -signal.SIGTERM
    eventually(lambda: not is_alive(first))
    assert show(UNIT, "Result") in ("success", "")


def test_a_user_has_one_keeper(guard: Keeper, keeper: Scopekeeper) -> None:
    guard.start()
    done = keeper.call("keeper")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "runs already" in done.stderr


def test_a_policy_that_became_wrong_changes_nothing(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.policy('[lanes.main]\norphans = "report"\n')
    guard.start()
    guard.policy('[lanes.main]\norphans = "kill"\n')
    os.kill(guard.pid, signal.SIGHUP)
    owner = gateway(keeper)
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER,
                           stderr=subprocess.DEVNULL)  # fmt: skip
    owner.kill()
    owner.wait()
    see_it_act(guard, keeper, session)  # by the rules that it had before
    assert member.poll() is None
    guard.policy('[lanes.main]\norphans = "stop"\n')
    os.kill(guard.pid, signal.SIGHUP)
    assert member.wait(PATIENCE) == -signal.SIGTERM


def test_an_owned_path_goes_with_its_last_user(
    guard: Keeper, keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    guard.policy('[lanes.default]\non_leader_exit = "linger"\n')
    guard.start()
    folder, marker, end = tmp_path / "mcp-config", tmp_path / "marker", tmp_path / "end"
    for each in (folder, marker):
        each.mkdir()
        (each / "servers.json").write_text("{}")
    helper = f"until test -e {end}; do sleep 0.1; done"
    done = keeper.run("-s", session, "--own", str(folder), "--",
                      "sh", "-c", f"(setsid sh -c '{helper}' &) > /dev/null 2>&1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert keeper.run("-s", f"{session}:marker", "--own", str(marker), "--", "true").returncode == 0
    eventually(lambda: not marker.exists())  # it has looked at all that is owned
    assert folder.exists(), "a helper still runs"
    end.touch()
    eventually(lambda: not folder.exists())


def test_watch_tells_of_every_event_in_order(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    output = guard.home / "watched"
    with output.open("wb") as file:
        watched = keeper.popen(
            [PROGRAM, "watch", "--json", "-s", session], stdout=file, stderr=subprocess.PIPE
        )
        assert b"watching" in watched.stderr.readline()
        keeper.run("-s", session, "-n", "one", "--", "sh", "-c", "sleep 0.1; exit 4")
        eventually(lambda: "ScopeEnded" in text_of(output) and "MemberEnded" in text_of(output))
        watched.terminate()
        assert watched.wait(PATIENCE) == 0
    told = [json.loads(line) for line in text_of(output).splitlines()]
    events = [each["event"] for each in told]
    assert events[:2] == ["ScopeStarted", "MemberStarted"]
    assert sorted(events[2:]) == ["MemberEnded", "ScopeEnded"]
    (end,) = [each for each in told if each["event"] == "MemberEnded"]
    assert (end["member"], end["exit_status"], end["reason"]) == ("one", 4, "exited")


@pytest.fixture
def on_the_bus(guard: Keeper) -> Iterator[Keeper]:
    """Give a keeper that is on the bus; the system's needs a policy for that."""
    with allowed():
        guard.start()
        yield guard


def test_the_bus_lists_stops_and_adopts(
    on_the_bus: Keeper, keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member("-s", session, "--owner", str(os.getpid()), "--", *FOREVER)
    listed = busctl("--json=short", "call", *BUS, "List")
    assert listed.returncode == 0, listed.stderr
    (scope,) = json.loads(listed.stdout)["data"][0]
    assert (scope["session"]["data"], scope["state"]["data"]) == (session, "running")
    for selector in (("0",), ("1", "unheard", "s", "of")):
        refused = busctl("call", *BUS, "Stop", "a{sv}s", *selector, "because")
        assert refused.returncode != 0
    words = ("1", "session", "s", session)
    adopted = busctl("--json=short", "call", *BUS, "Adopt", "a{sv}u", *words, "1")
    assert adopted.returncode == 0, adopted.stderr
    assert json.loads(adopted.stdout)["data"][0][0]["adopted"]["data"] is False
    assert member.poll() is None, on_the_bus.ends(session)
    stopped = busctl("--json=short", "call", *BUS, "Stop", "a{sv}s", *words, "over the bus")
    assert stopped.returncode == 0, stopped.stderr
    (result,) = json.loads(stopped.stdout)["data"][0]
    (end,) = on_the_bus.ends(session)
    assert result["outcome"]["data"] == "terminated", json.dumps(end)
    assert member.wait(PATIENCE) == -signal.SIGTERM
    assert "over the bus" in str(end["evidence"])
    introspected = busctl("introspect", *BUS[:2])
    for name in ("Adopt", "List", "Reconcile", "Stop", "ScopeStarted", "MemberEnded",
                 "ScopeEnded", "OrphanFound", "ProcessEscaped", "MemoryHigh",
                 "ScratchHigh"):  # fmt: skip
        assert f".{name}" in introspected.stdout


def test_it_leaves_a_stop_to_who_is_at_it_and_finishes_one_that_was_killed(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()

    def begin_stop(name: str) -> tuple["subprocess.Popen[bytes]", "subprocess.Popen[bytes]"]:
        """Begin a stop that waits long for a member whose own grace is short; return both."""
        stubborn = keeper.start(
            "-s", name, "--owner", str(os.getpid()), "--grace", "100ms", "--",
            "sh", "-c", "trap '' TERM; echo; while :; do sleep 1000; done", stdout=subprocess.PIPE,
        )  # fmt: skip
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"\n"
        keeper.member("-s", name, "--owner", str(os.getpid()), "--", *FOREVER)
        stop = keeper.popen([PROGRAM, "stop", "-s", name, "--grace", "1000s"])
        assert guard.ends(name)  # of the one that obeys: the keeper has looked at the scope since
        return stubborn, stop

    stubborn, stop = begin_stop(session)
    later, killed = begin_stop(f"{session}:later")
    killed.kill()
    killed.wait()
    assert later.wait(PATIENCE) == -signal.SIGKILL
    # before it looked at this one, it was due to look at the first
    assert stubborn.poll() is None
    assert is_stopping(session)
    stop.kill()
    stop.wait()
    assert stubborn.wait(PATIENCE) == -signal.SIGKILL


def is_stopping(session: str) -> bool:
    listed = subprocess.run(
        [PROGRAM, "ls", "--json", "-s", session], capture_output=True, text=True, check=True
    )
    return [each["state"] for each in json.loads(listed.stdout)["scopes"]] == ["stopping"]


def test_a_name_that_is_no_text_does_not_stop_it(
    on_the_bus: Keeper, keeper: Scopekeeper, session: str
) -> None:
    name = os.fsencode(session) + b"\xff"
    member = keeper.member("-s", os.fsdecode(name), "--owner", str(os.getpid()), "--", *FOREVER)
    listed = busctl("--json=short", "call", *BUS, "List")
    assert json.loads(listed.stdout)["data"][0][0]["session"]["data"] == f"{session}\\xff"
    assert keeper.call("stop", "--owner", str(os.getpid())).returncode == 0
    assert member.wait(PATIENCE) == -signal.SIGTERM
    eventually(
        lambda: json.loads(busctl("--json=short", "call", *BUS, "List").stdout)["data"] == [[]]
    )


@pytest.mark.root
def test_it_comes_back_to_a_bus_that_was_started_again(
    guard: Keeper, keeper: Scopekeeper, tmp_path: Path
) -> None:
    address = f"unix:path={tmp_path}/system_bus_socket"

    def start_bus() -> "subprocess.Popen[bytes]":
        program = ["dbus-daemon", "--session", "--nofork", f"--address={address}"]
        daemon = keeper.popen([*program, "--print-address"], stdout=subprocess.PIPE)
        assert daemon.stdout.readline()
        return daemon

    def is_there() -> bool:
        call = ["busctl", f"--address={address}", "call", *BUS, "List"]
        return subprocess.run(call, capture_output=True, timeout=60).returncode == 0

    bus = start_bus()
    # a bus that only this keeper sees, at the fixed place: all else needs the machine's
    guard.start(properties=[f"BindPaths={tmp_path}:/run/dbus"])
    pid = guard.pid
    assert is_there()
    bus.kill()
    bus.wait()
    assert not is_there()
    start_bus()
    eventually(is_there)
    assert guard.pid == pid


@pytest.mark.root
def test_nobody_but_root_may_call_the_systems_keeper(on_the_bus: Keeper) -> None:
    call = ["busctl", "--system", "call", *BUS, "List"]
    assert subprocess.run(call, capture_output=True).returncode == 0
    refused = subprocess.run(["runuser", "-u", "nobody", "--", *call], capture_output=True)
    assert refused.returncode != 0


@pytest.mark.root
def test_it_survives_that_systemd_executes_itself_anew(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    pid = guard.pid
    owner = gateway(keeper)
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    assert systemctl("daemon-reexec").returncode == 0
    eventually(lambda: show(UNIT, "ActiveState") == "active")
    assert guard.pid == pid
    assert member.poll() is None
    owner.kill()
    owner.wait()
    assert member.wait(PATIENCE) == -signal.SIGTERM


@pytest.mark.parametrize("what", ["keeper", "watch"])
def test_it_does_not_wake_up_when_nothing_happens(
    guard: Keeper, keeper: Scopekeeper, session: str, what: str
) -> None:
    for number in range(5):
        keeper.member("-s", f"{session}:{number}", "--owner", str(os.getpid()), "--", *FOREVER)
    words = {"keeper": ["keeper", "--linger", "infinity"], "watch": ["watch"]}
    output = guard.home / "output"
    with output.open("wb") as file:  # a child of ours, so that we may see what it waits in
        pid = keeper.popen([PROGRAM, *words[what]], stdout=file, stderr=subprocess.DEVNULL).pid
    eventually(lambda: signal_set(pid, "SigCgt") >> (signal.SIGTERM - 1) & 1)
    eventually(lambda: sleeps(pid))
    assert keeper.run("-s", f"{session}:woken", "--", "sleep", "0.1").returncode == 0
    if what == "keeper":
        assert guard.ends(f"{session}:woken")
    else:
        eventually(lambda: f"{session}:woken" in text_of(output))
    eventually(lambda: sleeps(pid))


def test_a_scope_whose_launch_was_killed_while_systemd_made_it_is_removed(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    """systemd 252 keeps most of them as active, without a process: no event is left to come."""
    guard.start()
    for number in range(10):
        scope = f"{SLICE}/{unit_name(f'{session}:{number}', 'main')}"
        launch = subprocess.Popen(keeper.argv("-s", f"{session}:{number}", "--", *FOREVER))
        eventually(lambda scope=scope: os.path.isdir(scope))
        launch.kill()
        launch.wait()
    eventually(lambda: not scope_directories())
