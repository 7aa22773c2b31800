"""Ending what runs in a delegated cgroup: stop and reconcile, without any systemd."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest

from tests.machine import (
    ATTRIBUTE,
    FOREVER,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    processes,
    record_of,
    rewrite_record,
    rounds,
    scope_directories,
    state_of,
    wait_for_command,
)

pytestmark = pytest.mark.root

STUBBORN = ("sh", "-c", "trap '' TERM HUP INT; echo ready; while :; do sleep 1000; done")


def stubborn(keeper: Scopekeeper, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a member that ignores SIGTERM and wait until it does."""
    process = keeper.start(*arguments, "--", *STUBBORN, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def reconcile(keeper: Scopekeeper, session: str) -> dict[str, tuple[str, str]]:
    """Reconcile; return class and action of the session's members by name."""
    owners = {
        record_of(directory_of(pid)).get("OWNER_PID", "")
        for scope in scope_directories(keeper.options[1].removeprefix("cgroup:"))
        for pid in processes(scope)
    }
    found = {}
    # only by the owners of our own scratch cgroup: others of the host are none of our business
    for owner in owners - {""}:
        done = keeper.call("reconcile", "--json", "--owner", owner)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        for action in json.loads(done.stdout)["actions"]:
            if session.rpartition(":")[2] in action["unit"]:
                found[action["member"] or "*"] = (action["class"], action["action"])
    return found


def owned_by(keeper: Scopekeeper) -> subprocess.Popen[bytes]:
    """Start a process that owns members and can be killed."""
    return keeper.popen(["sleep", "infinity"])


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill an owner, and it alone."""
    process.kill()
    process.wait()


def test_stop_ends_all_and_removes_the_folder(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    one = keeper.member("-s", session, "--", "sh", "-c", "setsid sleep 1e6 & wait")
    two = stubborn(keeper, "-s", session)
    (scope,) = scope_directories(folder)
    pids = eventually(lambda: len(found := processes(scope)) >= 4 and found)
    done = keeper.call("stop", "-s", session, "--grace", "200ms")
    assert done.returncode == 0, done.stderr
    assert not any(map(is_alive, pids))
    assert (one.wait(), two.wait()) == (-signal.SIGTERM, -signal.SIGKILL)
    assert not os.path.isdir(scope)


def test_a_member_is_stopped_and_its_sibling_lives(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    staying = keeper.member("-s", session, "-n", "staying", "--", *FOREVER)
    going = keeper.member("-s", session, "-n", "going", "--", *FOREVER)
    going.send_signal(signal.SIGSTOP)
    eventually(lambda: state_of(going.pid) == "T")
    assert keeper.call("stop", "-s", session, "-n", "going").returncode == 0
    assert going.wait() == -signal.SIGTERM
    assert is_alive(staying.pid)


def test_stops_of_one_scope_at_the_same_time_agree(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    for _ in rounds(5, least=2, seconds=1):
        process = stubborn(keeper, "-s", session)
        argv = [keeper.argv()[0], "stop", "-s", session, "--grace", "50ms"]
        stops = [keeper.popen(argv, stdout=subprocess.DEVNULL) for _ in range(6)]
        assert {stop.wait() for stop in stops} == {0}
        assert process.wait() == -signal.SIGKILL
        assert not scope_directories(folder)
        keeper.close()
        keeper.started.clear()


def test_a_stop_that_was_killed_is_finished_by_the_next_launch(
    keeper: Scopekeeper, session: str
) -> None:
    old = stubborn(keeper, "-s", session, "--grace", "300ms")
    scope = os.path.dirname(directory_of(old.pid))
    stop = keeper.popen([keeper.argv()[0], "stop", "-s", session, "--grace", "1000s"])
    eventually(lambda: record_of(scope).get("STATE") == "stopping")
    end(stop)
    new = keeper.start("-s", session, "-n", "new", "--", *FOREVER)
    assert old.wait() == -signal.SIGKILL
    wait_for_command(new)
    assert "STATE" not in record_of(os.path.dirname(directory_of(new.pid)))


def test_launches_racing_stops_end_inside_or_not_at_all(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    over = threading.Event()
    stops: list[subprocess.CompletedProcess[str]] = []

    def stop_all_the_time() -> None:
        while not over.is_set():
            stops.append(keeper.call("stop", "-s", session, "--grace", "2s"))

    stopper = threading.Thread(target=stop_all_the_time)
    stopper.start()
    launched = []
    try:
        for part in rounds(40, least=4):
            launched += [
                keeper.start(
                    "-s", session, "-n", f"m{member}", "--", "sh", "-c", "echo in; exec sleep 1e6",
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )
                for member in range(4)
            ]  # fmt: skip
            time.sleep(0.1 * part)
        said = [process.stdout.readline() for process in launched]
    finally:
        over.set()
        stopper.join()
    assert [done.stdout + done.stderr for done in stops if done.returncode] == []
    for process, word in zip(launched, said, strict=True):
        if not word:
            assert process.wait() == -signal.SIGTERM, process.stderr.read().decode()
        elif is_alive(process.pid):
            assert directory_of(process.pid).startswith(folder + "/scopekeeper-")
    assert keeper.call("stop", "-s", session).returncode == 0
    for process in launched:
        assert process.wait() in (-signal.SIGTERM, -signal.SIGKILL), process.stderr.read().decode()
    assert not scope_directories(folder)


def test_reconcile_ends_what_a_dead_owner_left_and_spares_its_sibling(
    keeper: Scopekeeper, session: str
) -> None:
    dying, living = owned_by(keeper), owned_by(keeper)
    orphan = keeper.member("-s", session, "-n", "orphan", f"--owner={dying.pid}", "--", *FOREVER)
    owned = keeper.member("-s", session, "-n", "owned", f"--owner={living.pid}", "--", *FOREVER)
    assert set(reconcile(keeper, session).values()) == {("owned", "keep")}
    end(dying)
    assert reconcile(keeper, session)["orphan"] == ("orphan", "stop")
    assert orphan.wait() == -signal.SIGTERM
    assert is_alive(owned.pid)


def test_reconcile_ends_a_whole_scope_and_removes_it(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    owner = owned_by(keeper)
    for name in ("one", "two"):
        keeper.member("-s", session, "-n", name, f"--owner={owner.pid}", "--", *FOREVER)
    end(owner)
    assert reconcile(keeper, session) == {"*": ("orphan", "stop")}
    assert not scope_directories(folder)


@pytest.mark.parametrize("lifetime", ["gateway", "detached"])
def test_reconcile_ends_what_has_outlived_its_ttl(
    keeper: Scopekeeper, session: str, lifetime: str
) -> None:
    owner = owned_by(keeper)
    options = ("--ttl", "1s", f"--owner={owner.pid}", f"--lifetime={lifetime}")
    process = keeper.member("-s", session, *options, "--", *FOREVER)
    eventually(lambda: reconcile(keeper, session).get("*") == ("expired", "stop"))
    assert process.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (b"", "damaged"),
        (b"V=2\nSESSION=x\nLANE=main\n", "foreign"),
        (b"V=1\nSESS", "damaged"),
        (b"V=1\nSESSION=x\nLANE=main\nTTL=--5\n", "damaged"),
    ],
)
def test_a_record_that_cannot_be_read_is_left_alone(
    keeper: Scopekeeper, session: str, record: bytes, word: str
) -> None:
    owner = owned_by(keeper)
    process = keeper.member("-s", session, f"--owner={owner.pid}", "--", *FOREVER)
    scope = os.path.dirname(directory_of(process.pid))
    os.setxattr(scope, ATTRIBUTE, record)
    end(owner)
    assert reconcile(keeper, session).get("*", (word, "report")) == (word, "report")
    assert keeper.call("stop", os.path.basename(scope)).returncode == 1
    assert is_alive(process.pid)
    assert os.getxattr(scope, ATTRIBUTE) == record


def test_a_pid_that_is_anothers_now_is_no_owner(keeper: Scopekeeper, session: str) -> None:
    innocent = owned_by(keeper)
    process = keeper.member("-s", session, f"--owner={innocent.pid}", "--", *FOREVER)
    leaf = directory_of(process.pid)
    rewrite_record(leaf, OWNER_START="1")
    assert reconcile(keeper, session) == {"*": ("orphan", "stop")}
    assert process.wait() == -signal.SIGTERM
    assert is_alive(innocent.pid)
