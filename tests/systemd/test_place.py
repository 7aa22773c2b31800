"""A place for a child that a gateway starts in it: born in its leaf, by clone3, and never moved."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import scopekeeper
from scopekeeper import errors
from tests import folders
from tests.birth import bear
from tests.machine import (
    FOREVER,
    PROGRAM,
    ROOT,
    Scopekeeper,
    environment_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    rounds,
    scope_directories,
    scope_directory,
    text_of,
)

from .guard import Keeper
from .manager import MANAGER, uid_of

pytestmark = pytest.mark.systemd


@pytest.fixture(autouse=True)
def children() -> Iterator[None]:
    """Reap what the test has born."""
    yield
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def place(keeper: Scopekeeper, session: str, *options: str, **how: Any) -> dict[str, Any]:
    """Make a place and return its description."""
    done = keeper.call("place", "-s", session, "--json", *options, **how)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def holders(directory: str) -> set[int]:
    """Return the processes that hold a scope for places."""
    return processes(f"{directory}/hold")


def start_of(pid: int) -> str:
    """Return a process's start time."""
    return text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]


def is_complete(leaf: str, pid: int) -> bool:
    """Return True if a record names this process."""
    record = record_of(leaf)
    return record.get("PID") == str(pid) and "JOINING" not in record


def is_watched(by: int, pid: int) -> bool:
    """Return True if a process holds a pidfd of another."""
    with contextlib.suppress(OSError):
        texts = [text_of(f"/proc/{by}/fdinfo/{fd}") for fd in os.listdir(f"/proc/{by}/fdinfo")]
        return any(f"\nPid:\t{pid}\n" in text for text in texts)
    return False


def marked(pid: int) -> dict[str, str]:
    """Wait until a child has become its command, and return the command's environment."""
    eventually(lambda: "SCOPEKEEPER_MEMBER" in environment_of(pid))
    return environment_of(pid)


def status_of(pid: int) -> int:
    """Reap a child and return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("kept", [False, True], ids=["alone", "with-a-keeper"])
def test_a_child_is_born_in_its_leaf_and_is_the_member_of_that_name(
    keeper: Scopekeeper, session: str, guard: Keeper, kept: bool
) -> None:
    if kept:
        guard.start()
    made = place(keeper, session, "-l", "cron", "-n", "files")
    leaf, scope = made["directory"], scope_directory(session)
    assert (os.path.dirname(leaf), os.path.basename(leaf)) == (scope, made["leaf"])
    (holder,) = holders(scope)
    (shown,) = keeper.scopes("-s", session)
    members: Any = shown["members"]
    assert (shown["state"], shown["processes"], members[0]["pid"]) == ("placed", 1, None)
    assert f"(holding the scope for a place: {holder})" in keeper.call("ls", "--members").stdout
    record = record_of(leaf)
    assert (record["NAME"], record["PID"], record["JOINING"]) == ("files", str(holder), "placed")
    pid, born_in = bear(leaf, FOREVER, {**os.environ, **made["environment"]})
    assert born_in == leaf
    eventually(lambda: is_complete(leaf, pid))
    assert record_of(leaf)["START"] == start_of(pid)
    eventually(lambda: not is_alive(holder))
    assert processes(scope) == {pid}
    marks = marked(pid)
    assert marks["SCOPEKEEPER_MEMBER"] == made["leaf"]
    assert marks["SCOPEKEEPER_SCOPE"] == os.path.basename(scope)
    (shown,) = keeper.scopes("-s", session)
    members = shown["members"]
    (member,) = members
    assert (shown["state"], shown["lane"], member["name"]) == ("running", "cron", "files")
    assert (member["pid"], member["state"], member["argv"]) == (pid, "running", list(FOREVER))
    done = keeper.call("stop", "-s", session, "--reason", "enough")
    assert (done.returncode, is_alive(pid)) == (0, False), done.stdout
    (end,) = guard.ends(session)
    assert (end["member"], end["pid"], end["reason"]) == ("files", pid, "stopped by request")
    assert end["argv"] == list(FOREVER)


@pytest.mark.parametrize("kept", [False, True], ids=["alone", "with-a-keeper"])
def test_how_it_ended_is_in_the_history_once_however_short_it_lived(
    keeper: Scopekeeper, session: str, guard: Keeper, kept: bool
) -> None:
    if kept:
        guard.start()
    stays = keeper.member("-s", session, "-n", "stays", "--", *FOREVER)
    long, short = (place(keeper, session, "-n", name)["directory"] for name in ("long", "short"))
    pid, _ = bear(long, ["sh", "-c", "read line < /dev/null; exit 7"],
                  before=lambda pid: eventually(
                      lambda: is_complete(long, pid) and (not kept or is_watched(guard.pid, pid))
                  ))  # fmt: skip
    assert status_of(pid) == 7
    assert status_of(bear(short, ["true"])[0]) == 0
    eventually(lambda: holders(scope_directory(session)) == set())
    found: list[dict[str, Any]] = []

    def is_written() -> bool:
        found[:] = guard.history(session)
        return len(found) >= 2

    eventually(is_written)
    assert sorted(end["member"] for end in found) == ["long", "short"]
    by_name = {end["member"]: end for end in found}
    assert by_name["long"]["pid"] == pid
    if kept:
        assert by_name["long"]["reason"] == "exited"
    assert keeper.call("reconcile").returncode == 0
    assert len(guard.history(session)) == 2
    assert is_alive(stays.pid)


@pytest.mark.parametrize("kept", [False, True], ids=["alone", "with-a-keeper"])
def test_one_that_stays_empty_is_removed_after_its_time_and_nothing_else(
    keeper: Scopekeeper, session: str, guard: Keeper, kept: bool
) -> None:
    if kept:
        guard.start()
    stays = keeper.member("-s", session, "-l", "busy", "-n", "stays", "--", *FOREVER)
    waits = place(keeper, f"{session}:waits", "-n", "w", "--within", "1h")["directory"]
    alone = place(keeper, f"{session}:alone", "-n", "a", "--within", "5s")["directory"]
    held = os.open(alone, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    beside = place(keeper, session, "-l", "busy", "-n", "b", "--within", "5s")["directory"]
    scope = os.path.dirname(beside)
    (holder,) = holders(scope)
    assert keeper.call("reconcile").returncode == 0
    eventually(lambda: not os.path.exists(alone) and not os.path.exists(beside))
    eventually(lambda: not os.path.exists(os.path.dirname(alone)))
    eventually(lambda: not is_alive(holder))
    assert (processes(scope), is_alive(stays.pid)) == ({stays.pid}, True)
    eventually(lambda: len(leaves(scope)) == 1)
    for where in (held, beside):  # too late: the kernel starts nothing
        with pytest.raises(OSError) as raised:  # noqa: PT011
            bear(where, FOREVER)
        assert raised.value.errno in (errno.ENOENT, errno.ENODEV)
    os.close(held)
    assert guard.history(session) == guard.history(f"{session}:alone") == []
    assert os.path.isdir(waits)  # that is no leftover
    assert keeper.call("stop", "-s", f"{session}:waits").returncode == 0


@pytest.mark.parametrize("kept", [False, True], ids=["reconcile", "keeper"])
def test_one_whose_holder_was_killed_is_a_leftover_unless_a_child_was_born_in_it(
    keeper: Scopekeeper, session: str, guard: Keeper, kept: bool
) -> None:
    if kept:
        guard.start()
    keeper.member("-s", session, "-n", "stays", "--", *FOREVER)
    empty, used = (place(keeper, session, "-n", name)["directory"] for name in ("empty", "used"))
    scope = scope_directory(session)
    for pid in holders(scope):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not holders(scope))
    pid, born_in = bear(used, FOREVER)
    if not kept:
        assert keeper.call("reconcile").returncode == 0
    eventually(lambda: not os.path.exists(empty))
    assert (born_in, is_alive(pid)) == (used, True)
    (shown,) = keeper.scopes("-s", session)
    members: Any = shown["members"]
    states = {each["name"]: each["state"] for each in members}
    assert states == {"stays": "running", "used": "running"}
    # it is a neighbour like any other
    assert keeper.run("-s", session, "-n", "more", "--", "true").returncode == 0
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_alive(pid)


def test_a_keeper_leaves_one_alone_that_waits(
    keeper: Scopekeeper, session: str, guard: Keeper
) -> None:
    guard.start()
    made = place(keeper, session, "-n", "files")
    lost = place(keeper, session, "-n", "lost")["directory"]
    os.kill(int(record_of(lost)["PID"]), signal.SIGKILL)
    eventually(lambda: not os.path.exists(lost))  # the keeper has waited for as long as it does
    assert holders(scope_directory(session))
    assert guard.living() == []
    pid, born_in = bear(made["directory"], FOREVER)
    assert born_in == made["directory"]
    eventually(lambda: guard.living() == ["files"])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    (end,) = guard.ends(session)
    assert (end["member"], end["reason"]) == ("files", "signalled")


def test_launches_and_places_join_beside_one_without_waiting(
    keeper: Scopekeeper, session: str
) -> None:
    began = time.monotonic()
    made = [place(keeper, session, "-n", f"server-{at}") for at in range(3)]
    joined = keeper.member("-s", session, "-n", "joins", "--", *FOREVER)
    made.append(place(keeper, session, "-n", "server-0"))  # the name of another: a member more
    assert time.monotonic() - began < 30
    scope = scope_directory(session)
    assert {os.path.dirname(each["directory"]) for each in made} == {scope}
    assert len({each["id"] for each in made}) == 4
    assert len(holders(scope)) == 4
    born = [bear(each["directory"], FOREVER)[0] for each in made]
    eventually(lambda: processes(scope) == {joined.pid, *born})
    for each, pid in zip(made, born, strict=True):
        assert processes(each["directory"]) == {pid}
    assert keeper.call("stop", "-n", "server-0").returncode == 0
    assert [is_alive(pid) for pid in born] == [False, True, True, False]


def test_those_that_are_made_at_once_are_in_one_scope_with_launches(
    keeper: Scopekeeper, session: str
) -> None:
    callers = [
        keeper.popen([PROGRAM, "place", "-s", session, "-n", "one"], stdout=subprocess.PIPE)
        for _ in range(5)
    ]
    joins = keeper.member("-s", session, "-n", "joins", "--", *FOREVER)
    made = [caller.communicate()[0].decode().strip() for caller in callers]
    assert [caller.returncode for caller in callers] == [0] * 5
    assert {os.path.dirname(leaf) for leaf in made} == {scope_directory(session)}
    born = [bear(leaf, FOREVER) for leaf in made]
    assert [born_in for _, born_in in born] == made
    eventually(lambda: all(is_complete(leaf, pid) for pid, leaf in born))
    assert len(scope_directories()) == 1
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not any(map(is_alive, (joins.pid, *(pid for pid, _ in born))))


@pytest.mark.controllers
def test_its_limits_hold_before_the_child_is_born(keeper: Scopekeeper, session: str) -> None:
    options = ("--memory-max", "256M", "--member-tasks-max", "1")
    leaf = place(keeper, session, "-n", "small", *options)["directory"]
    assert text_of(f"{leaf}/pids.max") == "1\n"
    assert text_of(f"{os.path.dirname(leaf)}/memory.max") == f"{256 << 20}\n"
    pid, born_in = bear(leaf, FOREVER)
    assert born_in == leaf
    eventually(lambda: is_complete(leaf, pid))
    assert text_of(f"{leaf}/pids.current") == "1\n"
    with pytest.raises(BlockingIOError):
        bear(leaf, FOREVER)
    assert keeper.call("stop", "-s", session).returncode == 0


def test_several_children_of_one_place_are_one_member(keeper: Scopekeeper, session: str) -> None:
    leaf = place(keeper, session, "-n", "two")["directory"]
    first, _ = bear(leaf, FOREVER)
    eventually(lambda: is_complete(leaf, first))
    second, born_in = bear(leaf, FOREVER)
    assert born_in == leaf
    assert processes(leaf) == {first, second}
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert is_complete(leaf, first)
    assert keeper.call("stop", "-s", session, "-n", "two").returncode == 0
    assert not is_alive(second)


@pytest.mark.parametrize("by", ["name", "session", "word"])
def test_an_empty_one_can_be_stopped(keeper: Scopekeeper, session: str, by: str) -> None:
    made = place(keeper, session, "-n", "never")
    (holder,) = holders(scope_directory(session))
    words = {"name": ("-s", session, "-n", "never"), "session": ("-s", session),
             "word": (made["leaf"],)}[by]  # fmt: skip
    done = keeper.call("stop", *words)
    assert done.returncode == 0, done.stdout
    assert not os.path.exists(made["directory"])
    eventually(lambda: not is_alive(holder) and not scope_directories())


def test_a_stop_ends_what_is_born_in_an_empty_one_meanwhile(
    keeper: Scopekeeper, session: str
) -> None:
    slow = keeper.member("-s", session, "-n", "slow", "--", "sh", "-c", "trap '' TERM; sleep 1000")
    leaf = place(keeper, session, "-n", "late")["directory"]
    argv = [PROGRAM, "stop", "-s", session, "--mine", "--grace", "3s"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as stop:
        eventually(lambda: "STATE" in record_of(leaf))
        pid, born_in = bear(leaf, FOREVER)
        assert (born_in, is_alive(slow.pid)) == (leaf, True)
        said, _ = stop.communicate()
    assert (stop.returncode, is_alive(pid), is_alive(slow.pid)) == (0, False, False), said
    eventually(lambda: not scope_directories())


def test_replace_ends_an_earlier_one_empty_or_not(keeper: Scopekeeper, session: str) -> None:
    empty = place(keeper, session, "-n", "git")["directory"]
    again = place(keeper, session, "-n", "git", "--replace")["directory"]
    assert not os.path.exists(empty)
    pid, _ = bear(again, FOREVER)
    eventually(lambda: is_complete(again, pid))
    last = place(keeper, session, "-n", "git", "--replace")["directory"]
    assert not is_alive(pid)
    pid, born_in = bear(last, FOREVER)
    assert born_in == last
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_alive(pid)


def test_its_owner_is_the_process_that_called_also_through_a_shell(
    keeper: Scopekeeper, session: str
) -> None:
    through = subprocess.run(
        ["sh", "-c", f"{PROGRAM} place -s {session} -n b; true"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=180,
    ).stdout.strip()  # fmt: skip
    direct = place(keeper, session, "-n", "a")["directory"]
    script = f"""{PROGRAM} policy show > /dev/null
        leaf=$(cd /; {PROGRAM} place -s {session} -n d; true); echo $leaf $$; read end"""
    with subprocess.Popen(
        ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:  # fmt: skip
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(f"{script}\n")
        shell.stdin.flush()
        leaf, pid = shell.stdout.readline().split()
        assert record_of(leaf)["OWNER_PID"] == pid == str(shell.pid)  # not the subshell
        shell.stdin.close()
    inherited = place(keeper, session, "-n", "c", stdin=None)["directory"]
    for leaf in (direct, through, inherited):
        record = record_of(leaf)
        assert record["OWNER_PID"] == str(os.getpid())
        assert record["OWNER_START"] == start_of(os.getpid())
    assert keeper.call("stop", "-s", session).returncode == 0


def test_a_caller_that_is_killed_leaves_nothing(keeper: Scopekeeper, session: str) -> None:
    began = time.monotonic()
    place(keeper, session, "-n", "one", "--within", "1s")
    takes = time.monotonic() - began
    for part in rounds(20, least=4):
        argv = [PROGRAM, "place", "-s", f"{session}:{part}", "-n", "one", "--within", "1s"]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as caller:
            time.sleep(part * takes)
            caller.kill()
    eventually(lambda: not scope_directories())


def test_what_it_prints_is_the_directory_and_the_end_of_its_output_comes_at_once(
    keeper: Scopekeeper, session: str
) -> None:
    began = time.monotonic()
    done = keeper.call("place", "-s", session, "-n", "x", "--within", "1m")
    assert time.monotonic() - began < 30
    assert (done.returncode, done.stderr) == (0, "")
    (holder,) = holders(scope_directory(session))
    assert done.stdout == f"{scope_directory(session)}/{record_leaf(session)}\n"
    assert {os.readlink(f"/proc/{holder}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
    assert keeper.call("stop", "-s", session).returncode == 0


def record_leaf(session: str) -> str:
    """Return the one leaf of a session's scope."""
    (leaf,) = [name for name in leaves(scope_directory(session)) if name != "hold"]
    return leaf


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--name"),
        (("-n", ""), "name"),
        (("-n", "x", "--within", "soon"), "--within"),
        (("-n", "x", "--within", "2h"), "1h"),
        (("-n", "x", "--within", "0"), "--within"),
        (("-n", "x", "--kind", "odd"), "kind"),
        (("-n", "x", "--own", "/tmp/x"), "--own"),
        (("-n", "x", "--", "true"), "true"),
    ],
)
def test_what_is_wrong_with_a_call_is_said_in_one_line(
    keeper: Scopekeeper, session: str, options: tuple[str, ...], says: str
) -> None:
    done = keeper.call("place", "-s", session, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not scope_directories()


@pytest.mark.skipif(not ROOT, reason="only root can start a program as another user")
def test_a_gateway_that_cannot_bear_there_is_refused(keeper: Scopekeeper, session: str) -> None:
    uid = uid_of("lab")
    if uid < 0:
        pytest.skip("no other user here")
    done = subprocess.run(
        ["runuser", "-u", "lab", "--", "env", f"XDG_RUNTIME_DIR=/run/user/{uid}", PROGRAM,
         "place", "-s", session, "-n", "x"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, cwd="/",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be born" in done.stderr
    assert "systemd-run --user" in done.stderr
    assert not scope_directories()


@pytest.fixture
def folder() -> Iterator[str]:
    """Provide a cgroup for scopes without a manager."""
    made = f"{MANAGER}/place-{uuid.uuid4().hex[:8]}"
    os.mkdir(made)
    yield made
    eventually(lambda: folders.remove(made))


def test_without_a_manager_it_is_the_same(keeper: Scopekeeper, session: str, folder: str) -> None:
    options = ("--placement", f"cgroup:{folder}")
    made = [place(keeper, session, "-n", name, *options)["directory"] for name in ("a", "b")]
    scope = os.path.dirname(made[0])
    assert os.path.dirname(scope) == folder
    assert keeper.call("reconcile").returncode == 0
    pid, born_in = bear(made[0], FOREVER)
    assert born_in == made[0]
    eventually(lambda: is_complete(made[0], pid))
    (shown,) = keeper.scopes("-s", session)
    members: Any = shown["members"]
    states = {each["name"]: each["state"] for each in members}
    assert states == {"a": "running", "b": "placed"}
    assert keeper.call("stop", "-n", "a").returncode == 0
    assert (is_alive(pid), os.path.isdir(made[1])) == (False, True)
    pid, born_in = bear(made[1], FOREVER)
    assert born_in == made[1]
    assert keeper.call("stop", "-s", session).returncode == 0
    eventually(lambda: not leaves(folder))
    place(keeper, session, "-n", "c", "--within", "1s", *options)
    eventually(lambda: not leaves(folder))


def test_a_cohort_has_places_and_ends_what_was_born_there(
    keeper: Scopekeeper, session: str, guard: Keeper
) -> None:
    with scopekeeper.Cohort(session, "cron", no_bus=True) as cohort:
        place = cohort.place("files")
        assert os.path.dirname(place.directory) == scope_directory(session)
        assert record_of(place.directory)["OWNER_PID"] == str(os.getpid())
        with place:
            pid, born_in = bear(place.fileno(), FOREVER, place.environment)
        assert born_in == place.directory
        marks = marked(pid)
        assert marks["SCOPEKEEPER_MEMBER"] == place.member == os.path.basename(place.directory)
        assert marks["SCOPEKEEPER_LANE"] == "cron"
        assert "DBUS_SESSION_BUS_ADDRESS" not in marks
        with pytest.raises(ValueError, match="closed"):
            place.fileno()
        eventually(lambda: is_complete(place.directory, pid))
        never = cohort.place("never", within=30, env={"A": "1"})
        assert never.environment["A"] == "1"
        assert {name for name in never.environment if not name.startswith("SCOPEKEEPER_")} == {"A"}
    assert (is_alive(pid), os.path.exists(never.directory)) == (False, False)
    os.waitpid(pid, 0)
    eventually(lambda: not scope_directories())
    (end,) = guard.ends(session)
    assert (end["member"], end["pid"], end["reason"]) == ("files", pid, "stopped by request")
    with pytest.raises(errors.UsageError, match="left"):
        cohort.place("more")
    with pytest.raises(errors.UsageError, match="within"):
        scopekeeper.Cohort(session).place("more", within="soon")
