"""A label names a session: the scopes that this gets later have it, too.

Records are read from the cgroup itself, and rows of the history with SQLite.
"""

import json
import os
import signal
import subprocess

import pytest

import scopekeeper
from tests.machine import FOREVER, PATIENCE, Scopekeeper, eventually, is_alive, record_of

from .bus import BUS, allowed, busctl
from .guard import Keeper
from .test_history import rows
from .test_label import LABEL, Client, client, living, named, scope_of, state

__all__ = ["client", "state"]

pytestmark = pytest.mark.systemd


def ended(server: subprocess.Popen[bytes]) -> None:
    """End the last member of a scope, and wait until the scope is gone."""
    directory = scope_of(server)
    server.send_signal(signal.SIGKILL)
    server.wait()
    eventually(lambda: not os.path.exists(directory))


def label_of(server: subprocess.Popen[bytes]) -> str:
    return record_of(scope_of(server)).get("LABEL", "")


def test_a_lane_that_comes_later_has_the_label(client: Client, keeper: Scopekeeper) -> None:
    main = client.server("time")
    assert keeper.call("label", client.session, "--as", LABEL).returncode == 0
    cron = client.server("job", "-l", "cron")
    outliving = client.server("build", "--lifetime", "session")
    assert len({scope_of(each) for each in (main, cron, outliving)}) == 3
    assert {label_of(each) for each in (main, cron, outliving)} == {LABEL}
    listed = keeper.scopes(LABEL)
    assert sorted(each["lane"] for each in listed) == ["cron", "main", "main"]  # type: ignore[type-var]
    assert {(each["session"], each["label"]) for each in listed} == {(client.session, LABEL)}
    stopped = keeper.call("stop", "-s", LABEL)
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.count(f"({LABEL}): gone after") == 3
    assert {each.wait(PATIENCE) for each in (main, cron, outliving)} == {-signal.SIGTERM}
    told = keeper.call("why", LABEL).stdout
    assert all(f"{name} (m-{name}." in told for name in ("time", "job", "build"))
    assert f"in {LABEL}, lane cron)" in told


def test_a_scope_that_is_made_anew_has_the_label(
    client: Client, keeper: Scopekeeper, state: os.PathLike[str]
) -> None:
    """Also where nobody saw its members end."""
    first = client.server("first")
    assert keeper.call("label", client.session, "--as", LABEL).returncode == 0
    ended(first)
    second = client.server("second")
    assert label_of(second) == LABEL
    ended(second)
    assert keeper.call("history").returncode == 0
    assert named(rows(state)) == {("first", LABEL), ("second", LABEL)}  # type: ignore[arg-type]
    shown = keeper.call("why", LABEL).stdout.splitlines()
    assert [line.split()[2] for line in shown] == ["first", "second"]
    third = client.server("third")
    assert keeper.call("stop", "-s", LABEL).returncode == 0
    assert third.wait(PATIENCE) == -signal.SIGTERM


def test_another_owner_has_no_such_label(client: Client, keeper: Scopekeeper, session: str) -> None:
    """Neither the same session of another owner, nor another session of the same one."""
    server = client.server("time", "-s", session)
    assert keeper.call("label", session, "--as", LABEL).returncode == 0
    ended(server)
    other = keeper.popen(["sleep", "infinity"]).pid
    others = keeper.member("-s", session, "--owner", str(other), "--", *FOREVER)
    elsewhere = client.server("git", "-s", f"{session}:2")
    assert (label_of(others), label_of(elsewhere)) == ("", "")
    assert label_of(client.server("later", "-s", session, "-l", "cron")) == LABEL
    assert keeper.call("stop", LABEL).returncode == 0
    assert is_alive(others.pid)
    assert is_alive(elsewhere.pid)


def test_the_newest_label_counts_and_none_if_it_was_removed(
    client: Client, keeper: Scopekeeper
) -> None:
    client.server("time")
    assert keeper.call("label", client.session, "--as", "codex:1").returncode == 0
    assert keeper.call("label", client.session, "--as", LABEL).returncode == 0
    cron = client.server("job", "-l", "cron")
    assert label_of(cron) == LABEL
    assert keeper.call("label", client.session, "--clear").returncode == 0
    assert label_of(cron) == ""
    assert label_of(client.server("other", "-l", "nested")) == ""


def test_what_was_given_to_a_part_of_a_session_stays_there(
    client: Client, keeper: Scopekeeper
) -> None:
    client.server("time")
    client.server("job", "-l", "cron")
    assert keeper.call("label", client.session, "-l", "cron", "--as", LABEL).returncode == 0
    nested = client.server("other", "-l", "nested")
    assert label_of(nested) == ""
    nested.kill()
    eventually(lambda: len(keeper.scopes(client.session)) == 2)
    assert keeper.call("label", client.session, "-l", "main", "--as", LABEL).returncode == 0
    assert label_of(client.server("another", "-l", "heartbeat")) == LABEL


def test_a_label_that_was_taken_over_is_no_name_of_its_own(
    client: Client, keeper: Scopekeeper
) -> None:
    """A client that goes on with another session labels the servers of that one so."""
    owner = ("--owner", str(client.pid), "--unnamed")
    first = client.server("first")
    assert keeper.call("label", *owner, "--as", "codex:1").returncode == 0
    ended(first)
    second = client.server("second")
    assert label_of(second) == "codex:1"
    assert keeper.call("label", *owner, "--as", LABEL).returncode == 0
    assert record_of(scope_of(second))["LABEL"] == LABEL
    assert "LABEL_TAKEN" not in record_of(scope_of(second))
    assert keeper.call("label", *owner, "--as", "codex:3").returncode == 4
    assert label_of(client.server("third", "-l", "cron")) == LABEL


def test_what_python_spawns_and_exec_starts_later_has_the_label(
    keeper: Scopekeeper, session: str, guard: Keeper
) -> None:
    guard.start()
    keeper.member("-s", session, "-n", "time", "--owner", str(os.getpid()), "--", *FOREVER)
    (info,) = scopekeeper.label(session, label=LABEL)
    assert info.label == LABEL
    child = scopekeeper.spawn(["sleep", "1000"], session=session, lane="cron", name="job")
    try:
        eventually(lambda: living(guard) == {("time", LABEL), ("job", LABEL)})
        run = ("--owner", str(os.getpid()), "-s", session)
        assert keeper.call("exec", "-d", *run, "--", *FOREVER).returncode == 0
        assert sorted(each["kind"] for each in keeper.scopes(LABEL)) == ["mcp", "mcp", "pty"]  # type: ignore[type-var]
        assert keeper.call("stop", LABEL).returncode == 0
        assert child.wait(PATIENCE) == -signal.SIGTERM
    finally:
        keeper.call("stop", session)


def test_a_label_by_the_bus_counts_later_too(guard: Keeper, keeper: Scopekeeper) -> None:
    with allowed():
        guard.start()
        client = Client(keeper, keeper.popen(["sleep", "infinity"]).pid)
        first = client.server("first")
        words = ("1", "session", "s", client.session, LABEL)
        done = busctl("--json=short", "call", *BUS, "Label", "a{sv}s", *words)
        assert done.returncode == 0, done.stderr
        ended(first)
        second = client.server("second")
        assert label_of(second) == LABEL
        (listed,) = json.loads(busctl("--json=short", "call", *BUS, "List").stdout)["data"][0]
        assert listed["label"]["data"] == LABEL
        second.send_signal(signal.SIGKILL)
        second.wait()
        eventually(lambda: named(rows(guard.state)) == {("first", LABEL), ("second", LABEL)})


@pytest.mark.parametrize("broken", [b"x" * 600, b"/\xff\xfe", b"\x1b]0;x\x07"])
def test_a_link_that_no_label_has_made_does_not_stop_a_launch(
    client: Client, keeper: Scopekeeper, broken: bytes
) -> None:
    first = client.server("first")
    assert keeper.call("label", client.session, "--as", LABEL).returncode == 0
    ended(first)
    folder = "/run" if os.getuid() == 0 else f"/run/user/{os.getuid()}"
    (link,) = [
        entry.path
        for entry in os.scandir(f"{folder}/scopekeeper/labels")
        if f"\\x2d{client.pid}-" in entry.name
    ]
    os.unlink(link)
    os.symlink(broken, os.fsencode(link))
    second = client.server("second")
    record = os.getxattr(scope_of(second), "user.scopekeeper")
    assert (b"\nLABEL=" + broken in record) == (len(broken) <= 512)
    assert keeper.call("stop", client.session).returncode == 0
