"""``stop`` ends what was named, all of it and nothing else, and proves it."""

import os
import shlex
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scopekeeper.cli.select_options import NOTHING
from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    processes,
    record_of,
    rewrite_record,
    scope_directories,
    scope_directory,
    signal_set,
    text_of,
    wait_for_command,
)

from .manager import SLICE, Units, main_pid, state, systemctl, systemd_run_argv

pytestmark = pytest.mark.systemd

STUBBORN = ("sh", "-c", "trap '' TERM HUP INT; echo ready; while :; do sleep 1000; done")


def stubborn(keeper: Scopekeeper, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a member that ignores SIGTERM and wait until it does."""
    process = keeper.start(*arguments, "--", *STUBBORN, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def unit_of(process: subprocess.Popen[bytes]) -> str:
    """Return the scope unit that a member is in."""
    return cgroup_of(process.pid).split("/")[-2]


def test_a_session_is_stopped_in_all_its_lanes(keeper: Scopekeeper, session: str) -> None:
    main = keeper.member("-s", session, "--", *FOREVER)
    cron = keeper.member("-s", session, "-l", "cron", "--", *FOREVER)
    other = keeper.member("-s", session + "x", "--", *FOREVER)
    unit = unit_of(main)
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0, done.stderr
    assert main.wait() == cron.wait() == -signal.SIGTERM
    assert is_alive(other.pid)
    eventually(lambda: state(unit) == "inactive")
    assert scope_directory(session) == ""


def test_one_lane_is_stopped_where_it_is_named(keeper: Scopekeeper, session: str) -> None:
    main = keeper.member("-s", session, "--", *FOREVER)
    cron = keeper.member("-s", session, "-l", "cron", "--", *FOREVER)
    assert keeper.call("stop", "-s", session, "-l", "cron").returncode == 0
    assert cron.wait() == -signal.SIGTERM
    assert is_alive(main.pid)


def test_a_member_is_stopped_by_name_and_its_siblings_live(
    keeper: Scopekeeper, session: str
) -> None:
    keeping = keeper.member("-s", session, "-n", "keeping", "--", *FOREVER)
    going = keeper.member("-s", session, "-n", "going", "--", *FOREVER)
    leaf = directory_of(going.pid)
    done = keeper.call("stop", "-s", session, "-n", "going")
    assert done.returncode == 0, done.stderr
    assert going.wait() == -signal.SIGTERM
    assert not os.path.isdir(leaf)
    assert is_alive(keeping.pid)
    again = keeper.member("-s", session, "-n", "going", "--", *FOREVER)
    assert unit_of(again) == unit_of(keeping)


def test_one_life_of_a_session_is_stopped_by_its_id(keeper: Scopekeeper, session: str) -> None:
    old = keeper.member("-s", session, "-l", "cron", "--session-id", "life-1", "--", *FOREVER)
    new = keeper.member("-s", session, "-l", "cron", "--session-id", "life-2", "--", *FOREVER)
    assert unit_of(old) != unit_of(new)
    assert keeper.call("stop", "--session-id", "life-1").returncode == 0
    assert old.wait() == -signal.SIGTERM
    assert is_alive(new.pid)


def test_units_are_stopped_by_name(keeper: Scopekeeper, session: str) -> None:
    one = keeper.member("-s", session, "-l", "a", "--", *FOREVER)
    two = keeper.member("-s", session, "-l", "b", "--", *FOREVER)
    three = keeper.member("-s", session, "-l", "c", "--", *FOREVER)
    assert keeper.call("stop", unit_of(one), unit_of(two).removesuffix(".scope")).returncode == 0
    assert one.wait() == two.wait() == -signal.SIGTERM
    assert is_alive(three.pid)


@pytest.mark.parametrize("by", ["session", "session id", "run", "name", "id", "leaf"])
def test_a_word_says_what_to_stop(keeper: Scopekeeper, session: str, by: str) -> None:
    options = ("-s", session, "--session-id", f"life of {session}", "--run", f"run{session[-8:]}")
    going = keeper.member(*options, "-n", f"n{session[-8:]}", "--", *FOREVER)
    leaf = os.path.basename(directory_of(going.pid))
    staying = keeper.member("-s", session + "x", "--", *FOREVER)
    word = {"session": session, "session id": options[3], "run": options[5],
            "name": f"n{session[-8:]}", "id": leaf[-8:], "leaf": leaf}[by]  # fmt: skip
    done = keeper.call("stop", word)
    assert (done.returncode, done.stderr) == (0, "")
    assert going.wait() == -signal.SIGTERM
    assert is_alive(staying.pid)


def test_a_word_that_means_nothing_is_said_and_the_rest_is_stopped(
    keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    done = keeper.call("stop", "7e484907", session)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "7e484907" in done.stderr
    assert member.wait() == -signal.SIGTERM
    assert keeper.call("stop", "-s", session).returncode == 0
    assert keeper.call("adopt", session).returncode == 4


def test_a_name_that_several_have_is_refused(keeper: Scopekeeper, session: str) -> None:
    name = f"n{session[-8:]}"
    pair = [keeper.member("-s", session + end, "-n", name, "--", *FOREVER) for end in "ab"]
    done = keeper.call("stop", name)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    for member in pair:
        assert os.path.basename(directory_of(member.pid)) in done.stderr
        assert is_alive(member.pid)
    assert keeper.call("stop", name, "-s", session + "a").returncode == 0
    assert pair[0].wait() == -signal.SIGTERM
    assert is_alive(pair[1].pid)


def test_what_a_gateway_owns_is_stopped_by_its_unit(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    gateway = f"gateway-{session[-8:]}.service"
    inner = " ".join(keeper.argv("-s", session, "--", *FOREVER))
    units.run(gateway, command=("sh", "-c", f"{inner} & exec sleep infinity"))
    mine = keeper.member("-s", session, "-l", "mine", "--", *FOREVER)
    theirs = eventually(lambda: [d for d in scope_directories() if "-mine." not in d])[0]
    assert keeper.call("stop", "--owner", gateway).returncode == 0
    eventually(lambda: not os.path.isdir(theirs))
    assert is_alive(mine.pid)
    assert is_alive(main_pid(gateway)), "the gateway itself is not what was to be stopped"


def test_what_a_process_owns_is_stopped_by_its_pid(keeper: Scopekeeper, session: str) -> None:
    owner = keeper.popen(["sleep", "infinity"])
    his = keeper.member("-s", session, "-n", "his", "--owner", str(owner.pid), "--", *FOREVER)
    mine = keeper.member("-s", session, "-n", "mine", "--", *FOREVER)
    assert keeper.call("stop", "--owner", str(owner.pid)).returncode == 0
    assert his.wait() == -signal.SIGTERM
    assert is_alive(mine.pid)
    assert is_alive(owner.pid)


def test_a_later_start_is_spared(keeper: Scopekeeper, session: str) -> None:
    before = keeper.member("-s", session, "-n", "before", "--", *FOREVER)
    stamps = {"iso": datetime.now(UTC).isoformat(), "number": f"@{time.time():.6f}"}
    after = keeper.member("-s", session, "-n", "after", "--", *FOREVER)
    assert keeper.call("stop", "-s", session, "--started-before", stamps["iso"]).returncode == 0
    assert before.wait() == -signal.SIGTERM
    done = keeper.call("stop", "-s", session, "--started-before", stamps["number"], "--must-exist")
    assert done.returncode == 4
    assert is_alive(after.pid)


def test_what_was_to_outlive_its_gateway_is_spared_by_lifetime(
    keeper: Scopekeeper, session: str
) -> None:
    """As OpenClaw's drop-in does it: all that a gateway owns, but no run of a longer lifetime."""
    mine = ("-s", session, "--owner", str(os.getpid()))
    members = {
        lifetime: keeper.member(*mine, "--lifetime", lifetime, "--", *FOREVER)
        for lifetime in ("gateway", "session", "detached")
    }
    owner = ("--owner", str(os.getpid()))
    assert keeper.call("stop", *owner, "--lifetime", "gateway").returncode == 0
    assert members["gateway"].wait(PATIENCE) == -signal.SIGTERM
    assert [members[each].poll() for each in ("session", "detached")] == [None, None]
    two = ("--lifetime", "session", "--lifetime", "gateway")
    assert keeper.call("stop", "-s", session, *two).returncode == 0
    assert members["session"].wait(PATIENCE) == -signal.SIGTERM
    assert members["detached"].poll() is None
    only = keeper.call("stop", "--lifetime", "session")
    assert (only.returncode, "no target given" in only.stderr) == (2, True)


def test_nothing_matched_is_told(keeper: Scopekeeper, session: str) -> None:
    done = keeper.call("stop", "-s", session)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{NOTHING}\n", "")
    assert keeper.call("stop", "-s", session, "--must-exist").returncode == 4


@pytest.mark.parametrize("where", ["launch", "stop"])
def test_the_grace_is_kept(keeper: Scopekeeper, session: str, where: str) -> None:
    at_launch, at_stop = (
        (["--grace", "700ms"], []) if where == "launch" else ([], ["--grace=700ms"])
    )
    process = stubborn(keeper, "-s", session, *at_launch)
    began = time.monotonic()
    done = keeper.call("stop", "-s", session, *at_stop)
    assert done.returncode == 0, done.stderr
    assert process.wait() == -signal.SIGKILL
    assert time.monotonic() - began >= 0.7


@pytest.mark.parametrize("what", ["member", "scope"])
def test_what_is_frozen_can_end_by_itself_like_what_is_stopped(
    keeper: Scopekeeper, session: str, what: str
) -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    process = keeper.start(
        "-s", session, "--grace=30s", "--", "sh", "-c", script, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    leaf = Path(directory_of(process.pid))
    frozen = leaf if what == "member" else leaf.parent
    (frozen / "cgroup.freeze").write_text("1")
    eventually(lambda: "frozen 1" in (leaf / "cgroup.events").read_text())
    done = keeper.call("stop", "-s", session)
    assert (done.returncode, process.wait()) == (0, 7), done.stderr
    assert "terminated" in done.stdout


THREADS = """
import ctypes, signal, sys, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
threading.Thread(target=time.sleep, args=(3600,)).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_that_lost_only_its_main_thread_is_killed_too(
    keeper: Scopekeeper, session: str
) -> None:
    """cgroup.kill alone does not reach it: Linux 6.18 sends the signal to the main thread."""
    argv = (sys.executable, "-c", THREADS)
    process = keeper.start("-s", session, "--", *argv, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    eventually(lambda: text_of(f"/proc/{process.pid}/stat").rpartition(")")[2].split()[0] == "Z")
    done = keeper.call("stop", "-s", session, "--grace", "100ms")
    assert done.returncode == 0, done.stdout
    assert process.wait() == -signal.SIGKILL


def test_a_stop_from_inside_ends_its_caller_and_proves_it(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    sibling = stubborn(keeper, "-s", session, "-n", "sibling")
    stop = " ".join([*keeper.argv()[:1], "stop", "-s", session, "--grace", "300ms"])
    script = f"{stop} > {tmp_path}/said 2>&1; echo never > {tmp_path}/after"
    caller = keeper.member("-s", session, "-n", "caller", "--", "sh", "-c", script)
    directory = os.path.dirname(directory_of(sibling.pid))
    assert caller.wait() in (-signal.SIGTERM, -signal.SIGKILL)
    assert sibling.wait() == -signal.SIGKILL
    eventually(lambda: "gone after" in text_of(tmp_path / "said"))
    eventually(lambda: not os.path.isdir(directory) and not scope_directories())
    assert not (tmp_path / "after").exists()


def test_a_stop_that_is_the_member_itself_works(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    program = keeper.argv()[0]
    with (tmp_path / "said").open("wb") as said:
        caller = keeper.start("-s", session, "--", program, "stop", "-s", session, stdout=said)
        assert caller.wait() == 0
    assert "gone after" in (tmp_path / "said").read_text()
    eventually(lambda: not scope_directories())


def test_many_scopes_are_stopped_at_once(keeper: Scopekeeper, session: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = (
        f"trap 'echo asked; until test -e {go}; do sleep 0.05; done; exit 7' TERM;"
        "echo ready; while :; do sleep 0.05; done"
    )
    members = [
        keeper.start("-s", session, "-l", f"lane:{number}", "--", "sh", "-c", script,
                     stdout=subprocess.PIPE)
        for number in range(12)
    ]  # fmt: skip
    assert [member.stdout.readline() for member in members] == [b"ready\n"] * len(members)
    stop = keeper.popen([keeper.argv()[0], "stop", "-s", session, "--grace", "1000s"],
                        stdout=subprocess.DEVNULL)  # fmt: skip
    assert [member.stdout.readline() for member in members] == [b"asked\n"] * len(members)
    go.touch()
    assert stop.wait(PATIENCE) == 0
    assert [member.wait() for member in members] == [7] * len(members)


def test_two_stops_of_one_scope_agree(keeper: Scopekeeper, session: str) -> None:
    process = stubborn(keeper, "-s", session)
    argv = [keeper.argv()[0], "stop", "-s", session, "--grace", "500ms"]
    stops = [keeper.popen(argv, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert {stop.wait() for stop in stops} == {0}
    assert process.wait() == -signal.SIGKILL


def begun_and_killed(keeper: Scopekeeper, session: str) -> tuple[subprocess.Popen[bytes], str]:
    """Have a stop killed in the middle; return the member that it left and the scope."""
    process = stubborn(keeper, "-s", session, "--grace", "1s")
    directory = os.path.dirname(directory_of(process.pid))
    stop = keeper.popen([keeper.argv()[0], "stop", "-s", session, "--grace", "1000s"])
    eventually(lambda: record_of(directory).get("STATE") == "stopping")
    stop.kill()
    stop.wait()
    assert is_alive(process.pid)
    return process, directory


def test_a_stop_that_was_killed_is_finished_by_the_next_launch(
    keeper: Scopekeeper, session: str
) -> None:
    old, directory = begun_and_killed(keeper, session)
    new = keeper.start("-s", session, "-n", "new", "--", *FOREVER)
    assert old.wait() == -signal.SIGKILL
    wait_for_command(new)
    assert os.path.dirname(directory_of(new.pid)) == directory
    assert "STATE" not in record_of(directory)


def test_a_stop_keeps_its_grace_whoever_looks_meanwhile(keeper: Scopekeeper, session: str) -> None:
    process = stubborn(keeper, "-s", session, "--grace", "100ms")
    directory = os.path.dirname(directory_of(process.pid))
    stop = keeper.popen([keeper.argv()[0], "stop", "-s", session, "--grace", "1000s"])
    eventually(lambda: record_of(directory).get("STATE") == "stopping")
    looked = keeper.call("reconcile")
    said = f"process {stop.pid}, asked by "
    assert (looked.returncode, said in looked.stdout) == (0, True), looked.stdout
    assert "is ending it, and kills what is left in 16m3" in looked.stdout
    assert is_alive(process.pid)
    stop.kill()
    stop.wait()
    assert keeper.call("reconcile").returncode == 0
    assert process.wait(PATIENCE) == -signal.SIGKILL


def test_a_stop_that_was_killed_is_finished_by_reconcile(keeper: Scopekeeper, session: str) -> None:
    old, directory = begun_and_killed(keeper, session)
    done = keeper.call("reconcile")
    assert done.returncode == 0, done.stderr
    assert old.wait() == -signal.SIGKILL
    eventually(lambda: not os.path.isdir(directory))


def test_a_stop_of_one_member_that_was_killed_is_finished_and_spares_the_others(
    keeper: Scopekeeper, session: str
) -> None:
    old = stubborn(keeper, "-s", session, "-n", "old", "--grace", "100ms")
    sibling = keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    leaf = directory_of(old.pid)
    words = ("-s", session, "-n", "old", "--grace", "1000s", "--reason", "out with the old")
    stop = keeper.popen([keeper.argv()[0], "stop", *words])
    eventually(lambda: record_of(leaf).get("STATE") == "stopping")
    assert keeper.call("reconcile").returncode == 0
    assert is_alive(old.pid), "who stops it lives"
    stop.kill()
    stop.wait()
    assert keeper.call("reconcile").returncode == 0
    assert old.wait() == -signal.SIGKILL
    assert is_alive(sibling.pid)
    assert "out with the old" in keeper.call("why", os.path.basename(leaf)).stdout


def test_a_launch_waits_for_a_stop_and_makes_the_next_life(
    keeper: Scopekeeper, session: str
) -> None:
    old = stubborn(keeper, "-s", session)
    directory = os.path.dirname(directory_of(old.pid))
    stop = keeper.popen([keeper.argv()[0], "stop", "-s", session, "--grace", "1s"])
    eventually(lambda: record_of(directory).get("STATE") == "stopping")
    new = keeper.start("-s", session, "-n", "new", "--", *FOREVER)
    wait_for_command(new)
    assert not is_alive(old.pid), "nobody joins what is being stopped"
    assert stop.wait() == 0
    assert is_alive(new.pid)
    assert state(unit_of(new)) == "active"


def test_replace_ends_the_earlier_member_before_the_command_starts(
    keeper: Scopekeeper, session: str
) -> None:
    old = stubborn(keeper, "-s", session, "-n", "server", "--grace", "300ms")
    sibling = keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    look = f"[ -e /proc/{old.pid}/exe ] && echo there || echo gone; exec sleep infinity"
    new = keeper.start(
        "-s", session, "-n", "server", "--replace", "--", "sh", "-c", look, stdout=subprocess.PIPE
    )
    assert new.stdout.readline() == b"gone\n"
    assert old.wait() == -signal.SIGKILL
    assert is_alive(sibling.pid)


def test_what_replaces_the_member_that_it_was_called_from_takes_a_hangup_as_before(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    after = shlex.join(["sh", "-c", f"echo $$ > {note}.new; mv {note}.new {note}; exec sleep 1e6"])
    again = shlex.join(keeper.argv("-s", session, "-n", "server", "--replace"))
    keeper.member("-s", session, "-n", "server", "--", "sh", "-c", f"exec {again} -- {after}")
    new = int(eventually(lambda: text_of(note)))
    assert "/m-server." in cgroup_of(new)
    assert not signal_set(new, "SigIgn") & 1 << signal.SIGHUP - 1


def test_systemds_own_stop_ends_everything_in_the_leaves(keeper: Scopekeeper, session: str) -> None:
    process = keeper.member("-s", session, "--", "sh", "-c", "setsid sleep infinity & wait")
    unit = unit_of(process)
    assert systemctl("stop", unit).returncode == 0
    assert process.wait() == -signal.SIGTERM
    eventually(lambda: not os.path.isdir(f"{SLICE}/{unit}"))


def test_a_target_with_a_long_grace_does_not_shield_the_others(
    keeper: Scopekeeper, session: str
) -> None:
    patient = stubborn(keeper, "-s", session, "-l", "a", "--grace=1h")
    hasty = stubborn(keeper, "-s", session, "-l", "b", "--grace=200ms")
    stop = keeper.popen([PROGRAM, "stop", "-s", session])
    assert hasty.wait(60) == -signal.SIGKILL
    assert is_alive(patient.pid)
    assert stop.poll() is None, "it waits for the other"
    stop.kill()
    assert keeper.call("stop", "-s", session, "--grace=0").returncode == 0
    assert patient.wait() == -signal.SIGKILL


def members_of(unit: str) -> set[int]:
    """Return every process that the gateway of a unit has in scopes of its own."""
    found = {pid for scope in scope_directories() for pid in processes(scope)}
    return {pid for pid in found if record_of(directory_of(pid)).get("OWNER_UNIT") == unit}


def test_a_gateway_stops_what_is_its_own_and_not_what_another_has_in_the_same_session(
    keeper: Scopekeeper, session: str, units: Units, tmp_path: Path
) -> None:
    """Two profiles of one gateway both have agent:main:main; a reset of one is not the other's."""
    launch = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    stop = shlex.join([PROGRAM, "stop", "-s", session, "--mine"])
    gateways = []
    for number in (1, 2):
        name = f"gateway{number}-{session[-8:]}.service"
        mail = f"{tmp_path}/mail{number}"
        # the stop is called as a hook script would call it, from a shell below the gateway
        script = f"{launch} & sh -c 'read go < {mail}; {stop} > {mail}.words; true'; sleep infinity"
        os.mkfifo(mail)
        units.run(name, "--property=KillMode=process", command=("sh", "-c", script))
        gateways.append((name, mail))
    (one, mail), (two, _) = gateways
    eventually(lambda: members_of(one) and members_of(two))
    before, others = members_of(one), members_of(two)
    # what an earlier life of it had left is its own too
    for pid in before:
        rewrite_record(directory_of(pid), OWNER_EPOCH="0" * 32)
    Path(mail).write_text("go\n")
    eventually(lambda: not any(map(is_alive, before)))
    eventually(lambda: "terminated" in text_of(f"{mail}.words"))
    assert all(map(is_alive, others))


def test_a_gateway_without_a_service_stops_what_its_own_process_owns(
    keeper: Scopekeeper, session: str
) -> None:
    launch = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    stop = shlex.join([PROGRAM, "stop", "-s", session, "--mine"])
    # called by a script that the gateway runs
    script = f"{launch} & read go; sh -c '{stop}; true'; echo done; read go"
    # in a scope, as in a login session: no service is the owner
    shell = [*systemd_run_argv("--scope", "--collect"), "sh", "-c"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    pair = [keeper.popen([*shell, script], **pipes, process_group=0) for _ in range(2)]
    eventually(lambda: {str(gateway.pid) for gateway in pair} == {*members_by_owner()})
    theirs = members_by_owner()
    # of who started both gateways
    beside = keeper.member("-s", session, f"--owner={os.getpid()}", "--", *FOREVER)
    one, two = pair
    one.stdin.write(b"\n")
    one.stdin.flush()
    assert b"terminated" in one.stdout.readline()
    assert one.stdout.readline() == b"done\n"
    assert not any(map(is_alive, theirs[str(one.pid)]))
    assert all(map(is_alive, theirs[str(two.pid)]))
    assert is_alive(beside.pid)
    for gateway in pair:
        gateway.communicate(b"\n\n")


def members_by_owner() -> dict[str, set[int]]:
    """Return the processes in all scopes by the pid of their owner."""
    found: dict[str, set[int]] = {}
    for pid in (pid for scope in scope_directories() for pid in processes(scope)):
        found.setdefault(record_of(directory_of(pid)).get("OWNER_PID", ""), set()).add(pid)
    return found
