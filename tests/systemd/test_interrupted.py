"""Ctrl-C in the middle of a command: what it says, and that this is true."""

import os
import re
import select
import shlex
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    record_of,
    scope_directory,
    text_of,
)

from .installed import Installed
from .manager import systemctl
from .test_exec import begin
from .test_stop import stubborn

pytestmark = pytest.mark.systemd


def called(keeper: Scopekeeper, *words: str, **how: object) -> "subprocess.Popen[str]":
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | how
    return keeper.popen([PROGRAM, *words], stderr=subprocess.PIPE, text=True, **how)


def interrupted(process: "subprocess.Popen[str]") -> str:
    """Send Ctrl-C to a command; it dies of that at once. Return its only line on stderr, if any."""
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, printed) == (-signal.SIGINT, "")
    assert said.count("\n") == bool(said), said
    return said


def is_marked(session: str) -> bool:
    return record_of(scope_directory(session)).get("STATE") == "stopping"


def begun(keeper: Scopekeeper, session: str, *words: str) -> "subprocess.Popen[str]":
    """Begin to stop a session in which one process ignores SIGTERM, and another has ended by it."""
    plain = keeper.member("-s", session, "-n", "plain", "--", *FOREVER)
    process = called(keeper, *words)
    assert plain.wait(PATIENCE) == -signal.SIGTERM
    eventually(lambda: is_marked(session))
    return process


@pytest.mark.parametrize("json", [(), ("--json",)], ids=["", "json"])
def test_a_stop_says_what_got_sigterm_what_still_runs_and_that_reconcile_finishes_it(
    keeper: Scopekeeper, session: str, json: tuple[str, ...]
) -> None:
    old = stubborn(keeper, "-s", session, "--grace", "1s")
    unit = os.path.basename(os.path.dirname(directory_of(old.pid)))
    said = interrupted(begun(keeper, session, "stop", "-s", session, "--grace", "1000s", *json))
    found = re.fullmatch(
        r"scopekeeper: interrupted: (\d+) processes got SIGTERM, (\d+) process(?:es)? still runs?; "
        r"no keeper runs: `scopekeeper (\S+)` finishes this stop; look: `scopekeeper (.+)`\n", said
    )  # fmt: skip
    assert found, said
    inside = text_of(f"{scope_directory(session)}/{os.path.basename(directory_of(old.pid))}/"
                     "cgroup.procs").split()  # fmt: skip
    assert int(found[2]) == len(inside)
    assert int(found[1]) == len(inside) + 1
    shown = keeper.call(*shlex.split(found[4]))
    assert shown.returncode == 0
    assert {"stopping", str(old.pid)} <= {*shown.stdout.split()}
    assert unit in found[4]
    assert is_alive(old.pid)
    assert keeper.call(found[3]).returncode == 0
    assert old.wait(PATIENCE) == -signal.SIGKILL


def test_a_stop_says_that_the_keeper_finishes_it_and_the_keeper_does(
    installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    assert installed
    old = stubborn(keeper, "-s", session, "--grace", "100ms")
    assert systemctl("start", "scopekeeper.service").returncode == 0
    said = interrupted(begun(keeper, session, "stop", "-s", session, "--grace", "1000s"))
    assert " still run" in said
    assert "; the keeper finishes this stop; look: `scopekeeper ls --members " in said
    assert old.wait(PATIENCE) == -signal.SIGKILL


def test_a_stop_of_several_scopes_shows_how_to_list_them(keeper: Scopekeeper, session: str) -> None:
    for each in ("a", "b"):
        stubborn(keeper, "-s", session, "-l", each, "-n", each, "--grace", "1s")
    process = called(keeper, "stop", "-s", session, "--grace", "1000s")
    eventually(lambda: keeper.call("ls", "--state", "stopping").stdout.count(session) == 2)
    said = interrupted(process)
    assert "look: `scopekeeper ls --members --state stopping`\n" in said
    assert keeper.call("reconcile").returncode == 0


def test_reconcile_says_what_it_has_begun(keeper: Scopekeeper, session: str) -> None:
    owner = keeper.popen(["sleep", "infinity"])
    of_owner = ("-s", session, f"--owner={owner.pid}")
    old = stubborn(keeper, *of_owner, "--grace", "500s")
    plain = keeper.member(*of_owner, "-n", "plain", "--", *FOREVER)
    owner.kill()
    owner.wait()
    process = called(keeper, "reconcile")
    assert plain.wait(PATIENCE) == -signal.SIGTERM
    said = interrupted(process)
    assert said.startswith("scopekeeper: interrupted: ")
    assert " still run" in said
    assert "`scopekeeper reconcile` finishes this stop" in said
    assert is_alive(old.pid)
    assert keeper.call("stop", "-s", session, "--grace", "0s").returncode == 0


@pytest.fixture
def run(installed: Installed, keeper: Scopekeeper, session: str) -> Iterator[str]:
    assert installed
    run = begin(keeper, session, "-n", "cat", "--", "cat")
    yield run
    keeper.call("stop", "-s", session)


def is_connected(process: "subprocess.Popen[str]") -> bool:
    folder = f"/proc/{process.pid}/fd"
    return any("socket:" in os.path.realpath(f"{folder}/{fd}") for fd in os.listdir(folder))


def test_a_wait_has_begun_nothing_and_says_nothing(keeper: Scopekeeper, run: str) -> None:
    process = called(keeper, "wait", run)
    eventually(lambda: is_connected(process))
    assert interrupted(process) == ""


def test_a_send_says_that_a_part_may_have_arrived(keeper: Scopekeeper, run: str) -> None:
    process = called(keeper, "send", "--stdin", run, stdin=subprocess.PIPE)
    eventually(lambda: is_connected(process))
    assert interrupted(process) == f"scopekeeper: interrupted: {run} may have got a part of it\n"


@pytest.mark.parametrize("how", ["exec", "attach"])
def test_a_client_of_a_run_says_that_the_run_continues(
    keeper: Scopekeeper, run: str, session: str, how: str
) -> None:
    words = {"exec": ("exec", "-s", session, "-n", "new", "--", "sh", "-c", "echo on; exec cat"),
             "attach": ("attach", run)}[how]  # fmt: skip
    process = called(keeper, *words, stdin=subprocess.PIPE)
    if how == "exec":
        assert process.stdout.readline() == "on\n"
    else:

        def shows_output() -> bool:  # it shows what comes after it has attached
            assert keeper.call("send", run, "x", "--enter").returncode == 0
            return bool(select.select([process.stdout], [], [], 0.2)[0])

        eventually(shows_output)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT
    found = re.fullmatch(
        r"\[interrupted: (\w+) continues; `scopekeeper attach \1` again, or `stop \1` ends it\]\n",
        said,
    )
    assert found, said
    assert (found[1] == run) is (how == "attach")
    assert keeper.call("send", found[1], "y").returncode == 0, "it continues"
    assert keeper.call("stop", found[1]).returncode == 0


def test_an_exec_that_waits_for_the_keeper_says_that_nothing_was_started(
    installed: Installed, keeper: Scopekeeper, session: str, run: str
) -> None:
    stopped = installed.pid
    os.kill(stopped, signal.SIGSTOP)
    process = called(keeper, "exec", "-d", "-s", f"{session}:new", "--", *FOREVER)
    eventually(lambda: is_connected(process))
    said = interrupted(process)
    os.kill(stopped, signal.SIGCONT)
    assert said == "scopekeeper: interrupted: nothing was started\n"
    assert run
    assert not scope_directory(f"{session}:new")
