"""Members that outlive what launched them: a stop leaves them, and names them."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    Scopekeeper,
    cgroup_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directory,
)

from .guard import Keeper

pytestmark = pytest.mark.systemd


@pytest.fixture
def other(session: str) -> str:
    """Name another session."""
    return f"{session}:other"


def inside(session: str, count: int = 1) -> list[int]:
    """Wait until so many commands run in the scope of a session; return their pids."""

    def found() -> list[int]:
        directory = scope_directory(session)
        records = [record_of(f"{directory}/{leaf}") for leaf in leaves(directory)]
        pids = [int(each["PID"]) for each in records if each and "JOINING" not in each]
        there = [pid for pid in pids if pid in processes(directory)]
        return there if len(there) == count else []

    return eventually(found)


@pytest.fixture
def agent(keeper: Scopekeeper, session: str) -> Callable[..., subprocess.Popen[bytes]]:
    """Start a member that runs these command lines of scopekeeper, and waits."""

    def start(*lines: list[str]) -> subprocess.Popen[bytes]:
        script = "".join(f"{shlex.join(line)} & " for line in lines) + "wait; exec sleep infinity"
        return keeper.member("-s", session, "-n", "agent", "--", "sh", "-c", script)

    return start


def leaf_of(pid: int) -> str:
    """Return the name of a process's leaf."""
    return os.path.basename(cgroup_of(pid))


def launched(keeper: Scopekeeper, other: str, how: str) -> list[str]:
    """Return the command line of a launch that outlives its launcher."""
    if how == "exec":
        return [keeper.argv()[0], "exec", "-d", "-s", other, "--", *FOREVER]
    return keeper.argv("-s", other, "-n", "a", "--lifetime", how, "--", *FOREVER)


@pytest.mark.parametrize("how", ["session", "detached", "exec"])
def test_a_stop_names_what_outlives_it(
    guard: Keeper,
    keeper: Scopekeeper,
    session: str,
    other: str,
    agent: Callable[..., subprocess.Popen[bytes]],
    how: str,
) -> None:
    if how == "exec":
        guard.start()
    first = agent(launched(keeper, other, how))
    (pid,) = inside(other)
    leaf = leaf_of(pid)
    lifetime = "session" if how == "exec" else how
    line = (
        rf"{{}}: \w+ \({re.escape(leaf)} in {re.escape(other)}, lane main, run \S+; "
        rf"lifetime {lifetime}\); end it: scopekeeper stop {re.escape(leaf)}"
    )
    dry = keeper.call("stop", "--dry-run", session)
    assert (dry.returncode, is_alive(first.pid)) == (0, True)
    assert re.search(f"(?m)^{line.format('would still run')}$", dry.stdout), dry.stdout
    (found,) = json.loads(keeper.call("stop", "--dry-run", "--json", session).stdout)["outliving"]
    assert (found["member_id"], found["lifetime"], found["pids"]) == (leaf[-8:], lifetime, [pid])
    assert found["launched_by"]["member"] == "agent"
    before = keeper.call("why", session).stdout

    done = keeper.call("stop", session)
    assert (done.returncode, is_alive(first.pid), is_alive(pid)) == (0, False, True)
    assert re.search(f"(?m)^{line.format('still runs')}$", done.stdout), done.stdout
    assert len(done.stdout.splitlines()) == 2
    again = keeper.call("stop", "-s", session, "--json")
    assert (again.returncode, json.loads(again.stdout)["stopped"]) == (0, [])
    assert [x["member_id"] for x in json.loads(again.stdout)["outliving"]] == [leaf[-8:]]

    # what the listing and the account say while the launcher runs, and after its end
    for why in (before, keeper.call("why", session).stdout):
        assert f"; lifetime {lifetime})" in why
        assert leaf in why
        assert "scopekeeper stop -s" not in why, "it would end nothing of it"
    listed = keeper.call("ls", "-s", session)
    assert listed.returncode == 0
    assert other in listed.stdout
    assert f"in {session}, lane main), to outlive it: lifetime {lifetime}" in listed.stdout
    document = json.loads(keeper.call("ls", "-s", session, "--json").stdout)
    assert document["scopes"] == []
    assert [x["member_id"] for x in document["outliving"]] == [leaf[-8:]]
    assert keeper.call("ls", session).returncode == 0

    assert keeper.call("stop", leaf).returncode == 0
    assert not is_alive(pid)


def test_each_sentence_of_why_is_true_of_all_that_it_names(
    keeper: Scopekeeper,
    session: str,
    other: str,
    agent: Callable[..., subprocess.Popen[bytes]],
) -> None:
    ends = f"{session}:ends"
    agent(launched(keeper, other, "session"), keeper.argv("-s", ends, "-n", "b", "--", *FOREVER))
    (stays,), (goes,) = inside(other), inside(ends)
    lines = keeper.call("why", session).stdout.splitlines()
    (ended,) = [line for line in lines if "stop -s" in line]
    assert (leaf_of(goes) in ended, leaf_of(stays) in ended) == (True, False)
    (left,) = [line for line in lines if leaf_of(stays) in line]
    assert "outlives a stop of it" in left
    assert f"scopekeeper stop {leaf_of(stays)}" in left
    known = json.loads(keeper.call("why", session, "--json").stdout)["launched"]
    assert {x["member"]: x["lifetime"] for x in known} == {"a": "session", "b": "gateway"}
    keeper.call("stop", "-s", session)
    assert (is_alive(goes), is_alive(stays)) == (False, True)


def test_of_many_the_first_and_a_count_are_named(
    keeper: Scopekeeper,
    session: str,
    other: str,
    agent: Callable[..., subprocess.Popen[bytes]],
) -> None:
    agent(
        *(
            keeper.argv("-s", other, "-n", f"a{n}", "--lifetime", "session", "--", *FOREVER)
            for n in range(8)
        )
    )
    pids = inside(other, 8)
    lines = keeper.call("stop", session).stdout.splitlines()
    assert [line.startswith("still runs: a") for line in lines] == [False, *[True] * 5, False]
    assert lines[-1] == f"still runs: 3 more; scopekeeper ls -s {session} lists all"
    assert all(map(is_alive, pids))
    assert keeper.call("ls", "-s", session, "--members").stdout.count("to outlive it") == 8


def test_what_ended_with_its_launcher_does_not_still_run(
    keeper: Scopekeeper,
    session: str,
    other: str,
    agent: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    """Its input closes with the launcher, whose second process takes the whole grace to end."""
    os.mkfifo(tmp_path / "in")
    reads = keeper.argv("-s", other, "-n", "reads", "--lifetime", "session", "--",
                        "cat", str(tmp_path / "in"))  # fmt: skip
    deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
    agent(reads, ["sh", "-c", f"exec sleep infinity > {tmp_path}/in"], deaf)
    (pid,) = inside(other)
    assert "would still run: reads" in keeper.call("stop", "--dry-run", session).stdout
    done = keeper.call("stop", session, "--grace", "1s")
    assert not is_alive(pid)
    assert "still run" not in done.stdout
    assert "still run" not in keeper.call("stop", "-s", session).stdout
