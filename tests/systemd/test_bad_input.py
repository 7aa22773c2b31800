"""Bad input: one line on stderr, the documented exit status, nothing changed."""

import json
import os
import signal

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    ROOT,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    rewrite_record,
    scope_directories,
)

from .manager import SLICE, scope_units, state

pytestmark = pytest.mark.systemd

FAILED, USAGE = 125, 2
NOT_A_CGROUP = "is not a cgroup2"

BAD_RUNS = {
    "an empty session": (["-s", ""], "session is empty"),
    "a session of 4 KiB": (["-s", "x" * 4096], "4096 characters; the most is 512"),
    "an empty lane": (["-s", "s", "-l", ""], "lane is empty"),
    "a lane too long": (["-s", "s", "-l", "y" * 641], "641 characters"),
    "an empty run": (["-s", "s", "--run="], "run is empty"),
    "an empty name": (["-s", "s", "-n", ""], "name is empty"),
    "a name too long": (["-s", "s", "-n", "n" * 256], "256 characters"),
    "an unknown kind": (["-s", "s", "--kind", "tty"], "kind"),
    "an unknown lifetime": (["-s", "s", "--lifetime", "forever"], "lifetime"),
    "an unknown duration": (["-s", "s", "--ttl", "soon"], "not a duration"),
    "a duration without a number": (["-s", "s", "--grace", "s"], "not a duration"),
    "a negative duration": (["-s", "s", "--ttl", "-5s"], "not a duration"),
    "a negative limit": (["-s", "s", "--memory-max", "-1"], "not a size"),
    "a negative number": (["-s", "s", "--tasks-max", "-5"], "whole number"),
    "no tasks at all": (["-s", "s", "--tasks-max", "0"], "out of range"),
    "no memory at all": (["-s", "s", "--memory-max", "0"], "out of range"),
    "a weight too large": (["-s", "s", "--cpu-weight", "10001"], "out of range"),
    "a limit of words": (["-s", "s", "--member-memory-max", "much"], "not a size"),
    "an unknown placement": (["-s", "s", "--placement", "moon"], "placement"),
    "a placement that is no cgroup": (["-s", "s", "--placement", "cgroup:/tmp"], NOT_A_CGROUP),
    "a placement that is nowhere": (["-s", "s", "--placement", "cgroup:/no/such"], NOT_A_CGROUP),
    "a relative placement": (["-s", "s", "--placement", "cgroup:here"], "absolute"),
    "a placement without a path": (["-s", "s", "--placement", "cgroup:"], "absolute"),
    "an owner that is no pid": (["-s", "s", "--owner", "gateway"], "pid"),
    "an owner that is gone": (["-s", "s", "--owner", "4194999"], "no such process"),
    "an unknown option": (["-s", "s", "--frobnicate"], "--frobnicate"),
    "an unknown wish": (["-s", "s", "--if-unavailable", "cry"], "if-unavailable"),
}
if not ROOT:
    BAD_RUNS["a placement that is not ours"] = (
        ["-s", "s", "--placement", f"cgroup:{MOUNT}"],
        "may not be written",
    )
    BAD_RUNS["the system's manager"] = (["-s", "s", "--placement", "system"], "root")

BAD_STOPS = {
    "no selector": ([], "no target given"),
    "only a lane": (["-l", "main"], "no target given"),
    "an empty session id": (["--session-id", ""], "--session-id is empty"),
    "an empty session": (["-s", "", "-n", "x"], "--session is empty"),
    "a grace that is none": (["-s", "s", "--grace", "soon"], "not a duration"),
    "a time that is none": (["-s", "s", "--started-before", "yesterday"], "is no time"),
    "a negative grace": (["-s", "s", "--grace", "-1s"], "not a duration"),
    "an unknown option": (["-s", "s", "--force"], "--force"),
}

ODD_SESSIONS = {
    "newlines": "one\ntwo\r\n",
    "slashes": "../../../../etc/passwd",
    "dots": "..",
    "a dot": ".",
    "spaces": "  a  b  ",
    "dashes": "-a--b-",
    "an escape": "a\\x2db",
    "every script": "Ωмир世界🦊e\u0301",
    "control characters": "\x1b[31mred\x07\x7f",
    "specifiers": "%n %i ${HOME} $(id) `id`",
    "quotes": "'\"",
    "512 of 4 bytes": "🦊" * 512,
    "the suffix": "x.scope",
    "an option": "--help",
}


@pytest.fixture(autouse=True)
def others(keeper: Scopekeeper, session: str) -> object:
    """Have something else running, which nothing here may change."""
    process = keeper.member("-s", session, "-l", "other", "--", *FOREVER)
    before = scope_directories(), scope_units(), cgroup_of(process.pid)
    yield
    eventually(lambda: (scope_directories(), scope_units(), cgroup_of(process.pid)) == before)
    assert is_alive(process.pid)


def refused(done: object, status: int, says: str) -> None:
    """Make sure that one line was said, with the exit status."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("scopekeeper: ")
    assert says in done.stderr
    assert len(done.stderr) < 500, "a line that nobody reads"


@pytest.mark.parametrize("case", BAD_RUNS)
def test_a_launch_refuses(keeper: Scopekeeper, case: str) -> None:
    arguments, says = BAD_RUNS[case]
    refused(keeper.run(*arguments, "--", "echo", "ran"), FAILED, says)


@pytest.mark.parametrize("arguments", [["-s", "s"], ["-s", "s", "--"], []])
def test_a_launch_without_a_command_refuses(keeper: Scopekeeper, arguments: list[str]) -> None:
    refused(keeper.run(*arguments), FAILED, "no command")


@pytest.mark.parametrize("case", BAD_STOPS)
def test_a_stop_refuses(keeper: Scopekeeper, case: str) -> None:
    arguments, says = BAD_STOPS[case]
    refused(keeper.call("stop", *arguments), USAGE, says)


def test_a_variable_is_checked_as_an_option_is(keeper: Scopekeeper) -> None:
    environment = {**os.environ, "SCOPEKEEPER_SESSION": "x" * 4096}
    refused(keeper.run("--", "echo", "ran", env=environment), FAILED, "4096 characters")
    environment = {**os.environ, "SCOPEKEEPER_PLACEMENT": "moon"}
    refused(keeper.run("-s", "s", "--", "echo", "ran", env=environment), FAILED, "placement")


@pytest.mark.parametrize("odd", ODD_SESSIONS.values(), ids=ODD_SESSIONS.keys())
def test_any_text_is_a_session_and_is_stopped_by_it(keeper: Scopekeeper, odd: str) -> None:
    process = keeper.member("-s", odd, "-l", odd, "-n", odd[:200], "--run", odd, "--", *FOREVER)
    directory = os.path.dirname(directory_of(process.pid))
    assert os.path.dirname(directory) == SLICE
    assert len(os.fsencode(os.path.basename(directory))) <= 255
    assert state(os.path.basename(directory)) == "active"
    (shown,) = [each for each in keeper.scopes() if each["session"] == odd]
    assert (shown["lane"], shown["run"]) == (odd, odd)
    assert len(keeper.call("ls").stdout.splitlines()) == 3, "a line for each scope, and a header"
    assert keeper.call("stop", "-s", odd, "--must-exist").returncode == 0
    assert process.wait() == -signal.SIGTERM


def test_bytes_that_are_no_text_are_a_session_too(keeper: Scopekeeper) -> None:
    odd = os.fsdecode(b"\xff\xfe\x80")
    process = keeper.member("-s", odd, "--", *FOREVER)
    assert json.dumps(keeper.scopes()).encode().decode()
    assert keeper.call("stop", "-s", odd, "--must-exist").returncode == 0
    assert process.wait() == -signal.SIGTERM


def test_a_lane_of_300_bytes_has_a_scope_of_its_own(keeper: Scopekeeper, session: str) -> None:
    lanes = ["z" * 299 + "1", "z" * 299 + "2"]
    one, two = (keeper.member("-s", session, "-l", lane, "--", *FOREVER) for lane in lanes)
    assert cgroup_of(one.pid).split("/")[-2] != cgroup_of(two.pid).split("/")[-2]
    assert keeper.call("stop", "-s", session, "-l", lanes[0]).returncode == 0
    assert is_alive(two.pid)
    assert not is_alive(one.pid)
    assert keeper.call("stop", "-s", session, "-l", lanes[1]).returncode == 0


def test_a_scope_whose_cut_name_is_anothers_is_not_joined(keeper: Scopekeeper) -> None:
    long = "q" * 400
    process = keeper.member("-s", long, "--", *FOREVER)
    directory = os.path.dirname(directory_of(process.pid))
    rewrite_record(directory, SESSION="q" * 399 + "r")
    refused(keeper.run("-s", long, "--", "echo", "ran"), FAILED, "another session")
    assert os.listdir(directory).count(os.path.basename(directory_of(process.pid))) == 1
    assert keeper.call("stop", os.path.basename(directory)).returncode == 0


def test_a_limit_for_an_existing_scope_is_a_warning(keeper: Scopekeeper, session: str) -> None:
    keeper.member("-s", session, "--tasks-max", "100", "--", *FOREVER)
    done = keeper.run("-s", session, "--tasks-max", "200", "--", "sh", "-c", "exit 8")
    assert done.returncode == 8
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("scopekeeper: warning: --tasks-max has no effect")
    same = keeper.run("-s", session, "--tasks-max", "100", "--", "sh", "-c", "exit 8")
    assert (same.returncode, [w for w in same.stderr.splitlines() if "exists" in w]) == (8, [])
    assert keeper.call("stop", "-s", session, "-l", "main").returncode == 0
