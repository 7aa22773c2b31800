"""Many at once: whoever is faster, every command runs inside a scope that systemd knows."""

import os
import subprocess
import threading
import time

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    Scopekeeper,
    cgroup_of,
    complaints,
    eventually,
    is_alive,
    is_emulated,
    processes,
    rounds,
    scope_directories,
    wait_for_command,
)

from .manager import scope_units, state

pytestmark = pytest.mark.systemd

LAUNCHERS = 32
TELL = (
    "while read -r line; do case $line in 0::*) echo ${line#0::};; esac; done < /proc/self/cgroup"
)
"""Says in which cgroup the command runs, as the command itself sees it, without a child."""


def test_launchers_racing_for_one_new_scope_all_end_up_in_it(
    keeper: Scopekeeper, session: str
) -> None:
    for number, _ in enumerate(rounds(100, least=3)):
        name = f"{session}:{number}"
        racers = [
            keeper.start(
                "-s", name, "-n", f"m{racer}", "--", "sh", "-c", f"{TELL}; read -r end && exit 7",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for racer in range(LAUNCHERS)
        ]  # fmt: skip
        places = [racer.stdout.readline().decode().strip() for racer in racers]
        assert all(places), [racer.stderr.read() for racer in racers if racer.poll() is not None]
        (scope,) = {os.path.dirname(place) for place in places}
        assert len(set(places)) == LAUNCHERS
        assert processes(MOUNT + scope) == {racer.pid for racer in racers}
        assert state(os.path.basename(scope)) == "active"
        assert list(scope_units().values()).count("active") == 1
        for racer in racers:
            out, words = racer.communicate(b"\n")
            assert (out, complaints(words)) == (b"", [])
        assert [racer.returncode for racer in racers] == [7] * LAUNCHERS
        keeper.started.clear()
        eventually(lambda scope=scope: not os.path.isdir(MOUNT + scope))


def test_short_commands_racing_for_one_name_all_run_inside(
    keeper: Scopekeeper, session: str
) -> None:
    # the scope comes and goes all the time: some join it, some make it, some meet its end
    for _ in rounds(20, least=2):
        racers = [
            keeper.start(
                "-s", session, "-n", f"member{number % 4}", "--", "sh", "-c", TELL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for number in range(LAUNCHERS)
        ]  # fmt: skip
        for racer in racers:
            out, words = racer.communicate(timeout=120)
            assert complaints(words) == []
            assert racer.returncode == 0
            scope, leaf = out.decode().strip().split("/")[-2:]
            assert scope.endswith(".scope")
            assert leaf.startswith("m-member")
        keeper.started.clear()
    eventually(lambda: not scope_directories())


def test_the_unit_lives_for_one_who_joins_while_the_last_member_leaves(
    keeper: Scopekeeper, session: str
) -> None:
    span = 0.4 if is_emulated() else 0.03
    for number, part in enumerate(rounds(150, least=10)):
        name = f"{session}:{number}"
        last = keeper.member("-s", name, "--", *FOREVER)
        joiner = keeper.start("-s", name, "--", *FOREVER, stderr=subprocess.PIPE)
        time.sleep(span * part)  # sweeps the leave over the whole of the launch
        last.kill()
        last.wait()
        wait_for_command(joiner)  # fails with what the launch said, if it gave up
        scope = os.path.dirname(cgroup_of(joiner.pid))
        eventually(lambda scope=scope: state(os.path.basename(scope)) == "active")
        # systemd notices an empty cgroup a little later: it must not fall for that one
        assert processes(MOUNT + scope) == {joiner.pid}
        joiner.kill()
        assert complaints(joiner.communicate()[1]) == []
        keeper.started.clear()


def test_launches_racing_stops_leave_no_ghost_and_nothing_outside(
    keeper: Scopekeeper, session: str
) -> None:
    stops: list[subprocess.CompletedProcess[str]] = []
    over = threading.Event()

    def stop_all_the_time() -> None:
        while not over.is_set():
            stops.append(keeper.call("stop", "-s", session, "--grace", "2s"))

    stopper = threading.Thread(target=stop_all_the_time)
    stopper.start()
    launched = []
    try:
        for part in rounds(60, least=4):
            launched += [
                keeper.start(
                    "-s", session, "-n", f"m{member}", "--", "sh", "-c",
                    f"{TELL}; exec sleep infinity",
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )
                for member in range(4)
            ]  # fmt: skip
            time.sleep(0.1 * part)
        places = [process.stdout.readline().decode().strip() for process in launched]
    finally:
        over.set()
        stopper.join()
    assert stops
    assert [done.stderr + done.stdout for done in stops if done.returncode] == []
    _no_ghosts()
    for process, place in zip(launched, places, strict=True):
        if place:
            assert "/scopekeeper.slice/scopekeeper-" in place
            assert "/m-m" in place
        else:  # it was ended by the stop, before it could say where it was
            assert process.wait() == -15, process.stderr.read().decode()
        if is_alive(process.pid):
            assert cgroup_of(process.pid) == place
    assert keeper.call("stop", "-s", session).returncode == 0
    for process in launched:
        assert process.wait() in (-15, -9), process.stderr.read().decode()
    eventually(lambda: not scope_directories())


def _no_ghosts() -> None:
    """Every scope in which something lives is an active unit."""
    for directory in scope_directories():
        if processes(directory):
            unit = os.path.basename(directory)
            eventually(lambda unit=unit: state(unit) == "active")
