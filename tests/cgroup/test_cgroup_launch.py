"""Launching into a delegated cgroup: the scope is a folder of ours, and nobody is asked."""

import os
import signal
import subprocess
import time

import pytest

from tests.machine import (
    FOREVER,
    Scopekeeper,
    cgroup_of,
    children_of,
    complaints,
    directory_of,
    eventually,
    impatient_run,
    leaves,
    processes,
    record_of,
    rounds,
    scope_directories,
    text_of,
    wait_for_command,
)

pytestmark = pytest.mark.root

TELL = (
    "while read -r line; do case $line in 0::*) echo ${line#0::};; esac; done < /proc/self/cgroup"
)


def test_the_first_member_makes_the_scope_and_the_second_joins(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    one = keeper.member("-s", session, "-n", "one", "--", *FOREVER)
    two = keeper.member("-s", session, "-n", "two", "--", *FOREVER)
    (scope,) = scope_directories(folder)
    assert os.path.dirname(scope) == folder
    assert os.path.dirname(directory_of(one.pid)) == scope
    assert os.path.dirname(directory_of(two.pid)) == scope
    assert [leaf.rpartition(".")[0] for leaf in leaves(scope)] == ["m-one", "m-two"]
    assert record_of(scope)["SESSION"] == session
    assert record_of(directory_of(two.pid))["PID"] == str(two.pid)


def test_the_first_instruction_runs_inside_the_leaf(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    for _ in range(2):
        process = keeper.start(
            "-s", session, "--", "sh", "-c", f"{TELL}; exec sleep infinity", stdout=subprocess.PIPE
        )
        path = process.stdout.readline().decode().strip()
        assert path == cgroup_of(process.pid)
        assert "/m-sh." in path


def test_exit_status_and_death_are_the_commands(keeper: Scopekeeper, session: str) -> None:
    assert keeper.run("-s", session, "--", "sh", "-c", "exit 77").returncode == 77
    assert keeper.run("-s", session, "--", "sh", "-c", "kill -9 $$").returncode == -9


def test_a_scope_in_which_nothing_lives_is_made_anew(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    for number in range(3):
        assert keeper.run("-s", session, "-n", f"m{number}", "--", "true").returncode == 0
    process = keeper.member("-s", session, "--", *FOREVER)
    (scope,) = scope_directories(folder)
    assert leaves(scope) == [os.path.basename(directory_of(process.pid))]


def test_a_leaf_that_a_launch_is_about_to_enter_is_not_removed(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    keeper.member("-s", session, "-n", "one", "--", *FOREVER)
    (scope,) = scope_directories(folder)
    with open("/proc/self/stat", encoding="utf-8") as file:
        start = file.read().rpartition(")")[2].split()[19]
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name, pid in (("01234567", os.getpid()), ("89abcdef", dead.pid), ("00000000", None)):
        os.mkdir(f"{scope}/m-two.{name}")
        if pid is not None:
            record = f"V=1\nNAME=two\nPID={pid}\nSTART={start}\n".encode()
            os.setxattr(f"{scope}/m-two.{name}", "user.scopekeeper", record)
    assert keeper.run("-s", session, "-n", "two", "--", "true").returncode == 0
    left = leaves(scope)
    assert "m-two.01234567" in left, "its launcher runs"
    assert "m-two.00000000" in left, "its launcher may be about to write the record"
    assert "m-two.89abcdef" not in left, "its launcher has ended"


def test_launchers_racing_for_one_new_scope_all_end_up_in_it(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    for number, _ in enumerate(rounds(12, least=2)):
        racers = [
            keeper.start(
                "-s", f"{session}:{number}", "-n", f"m{racer}", "--",
                "sh", "-c", f"{TELL}; read -r end; exit 0",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for racer in range(32)
        ]  # fmt: skip
        places = [racer.stdout.readline().decode().strip() for racer in racers]
        words = [
            r.stderr.read().decode() for r, place in zip(racers, places, strict=True) if not place
        ]
        assert not words
        (scope,) = {os.path.dirname(place) for place in places}
        assert len(set(places)) == len(racers)
        (directory,) = [each for each in scope_directories(folder) if each.endswith(scope)]
        assert processes(directory) == {racer.pid for racer in racers}
        for racer in racers:
            out, words = racer.communicate(b"\n")
            assert (out, complaints(words)) == (b"", [])
            assert racer.returncode == 0
        keeper.started.clear()
        assert keeper.call("stop", "-s", f"{session}:{number}").returncode == 0
        assert not os.path.isdir(directory)


def test_short_commands_racing_for_one_name_all_run_inside(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    for _ in rounds(8, least=2):
        racers = [
            keeper.start(
                "-s", session, "-n", f"m{number % 4}", "--", "sh", "-c", TELL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for number in range(32)
        ]  # fmt: skip
        for racer in racers:
            out, words = racer.communicate(timeout=120)
            assert complaints(words) == []
            assert racer.returncode == 0
            assert "/m-m" in out.decode()
            assert ".scope/" in out.decode()
        keeper.started.clear()


def test_a_joiner_is_inside_whenever_the_last_member_leaves(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    for number, part in enumerate(rounds(100, least=5)):
        name = f"{session}:{number}"
        last = keeper.member("-s", name, "--", *FOREVER)
        joiner = keeper.start("-s", name, "--", *FOREVER, stderr=subprocess.PIPE)
        time.sleep(0.03 * part)  # sweeps the leave over the whole of the launch
        last.kill()
        last.wait()
        wait_for_command(joiner)
        leaf = directory_of(joiner.pid)
        assert leaf.startswith(folder + "/scopekeeper-")
        assert record_of(leaf)["PID"] == str(joiner.pid)
        assert record_of(os.path.dirname(leaf))["SESSION"] == name
        joiner.kill()
        assert complaints(joiner.communicate()[1]) == []
        keeper.started.clear()


def test_a_launcher_killed_at_any_moment_blocks_nobody(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    for part in rounds(40, least=4):
        victim = keeper.start("-s", session, "--", "true")
        time.sleep(0.02 * part)
        victim.kill()
        victim.wait()
        assert keeper.run("-s", session, "--", "sh", "-c", "exit 5").returncode == 5


def test_a_folder_whose_maker_died_before_its_record_is_used(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    directory = f"{folder}/scopekeeper-{session}-main.scope"
    os.mkdir(directory)
    process = keeper.member("-s", session, "--", *FOREVER)
    assert os.path.dirname(directory_of(process.pid)) == directory
    assert record_of(directory)["SESSION"] == session


def test_what_somebody_else_made_is_refused(keeper: Scopekeeper, session: str, folder: str) -> None:
    directory = f"{folder}/scopekeeper-{session}-main.scope"
    os.mkdir(directory)
    stranger = keeper.popen(["sleep", "infinity"])
    with open(f"{directory}/cgroup.procs", "w") as file:
        file.write(str(stranger.pid))
    done = impatient_run(*keeper.options, "-s", session, "--", "echo", "ran")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (125, "", 1)
    assert keeper.call("stop", "-s", session).returncode == 1
    assert processes(directory) == {stranger.pid}
    assert leaves(directory) == []


def test_a_nested_run_stays_in_the_placement(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    inner = " ".join([*keeper.argv()[:2], "-n", "inner", "-l", "deeper", "--", *FOREVER])
    outer = keeper.member("-s", session, "--", "sh", "-c", f"{inner} & wait")
    (pid,) = eventually(lambda: children_of(outer.pid))
    try:
        eventually(lambda: "SCOPEKEEPER_MEMBER=m-inner." in text_of(f"/proc/{pid}/environ"))
        assert os.path.dirname(os.path.dirname(directory_of(pid))) == folder
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_signal_reaches_the_command(keeper: Scopekeeper, session: str) -> None:
    process = keeper.member("-s", session, "--", *FOREVER)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
