"""Members that a gateway in Python starts: as ``Popen`` would start them, and in their leaf."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import scopekeeper
from scopekeeper import errors
from scopekeeper.python_api import posix_spawn
from tests.machine import (
    ATTRIBUTE,
    FOREVER,
    Scopekeeper,
    children_of,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    scope_directories,
    scope_directory,
    state_of,
    text_of,
)
from tests.watching import descriptors

from .guard import Keeper
from .manager import SLICE, Units, main_pid, state

pytestmark = pytest.mark.systemd

HELPER = "setsid sleep 1000 & echo $!; exec sleep 1000"
"""A command that leaves its process group behind."""


@pytest.fixture(params=["native", "launcher"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Start members in each of the two ways that this machine's C library has."""
    if request.param == "launcher":
        monkeypatch.setattr(posix_spawn, "is_there", lambda: False)
    elif not posix_spawn.is_there():
        pytest.skip("this C library cannot start a child in a cgroup; the other way is tested")
    return str(request.param)


def portrait(pid: int, *, uncontained: bool = False) -> dict[str, Any]:
    """Return what a process got from who started it, as procfs has it."""

    def link(name: str) -> str:
        target = os.readlink(f"/proc/{pid}/{name}")
        return target.partition("[")[0] if target.startswith(("pipe:", "socket:")) else target

    eventually(lambda: state_of(pid) == "S")  # no longer at its libraries
    status = dict(line.split(":\t", 1) for line in text_of(f"/proc/{pid}/status").splitlines())
    fields = text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    environment = environment_of(pid)
    told = {name for name in environment if name.startswith("SCOPEKEEPER_")}
    assert bool(told) != uncontained
    return {
        "fds": {name: link(f"fd/{name}") for name in sorted(os.listdir(f"/proc/{pid}/fd"))},
        "cwd": link("cwd"),
        "exe": link("exe"),
        "argv": text_of(f"/proc/{pid}/cmdline"),
        "environment": {k: v for k, v in environment.items() if k not in told},
        "status": {k: status[k] for k in ("Umask", "SigBlk", "SigIgn", "SigCgt", "PPid")},
        "group, session": [(int(field) == pid) or int(field) for field in fields[2:4]],
    }


def cases(folder: Path, inheritable: int, plain: int) -> Iterator[tuple[object, dict[str, Any]]]:
    """Yield commands that stay, each with what ``Popen`` is to do about it."""
    pipe = subprocess.PIPE
    yield FOREVER, {}
    yield FOREVER, {"stdin": pipe, "stdout": pipe, "stderr": pipe, "bufsize": 0}
    yield FOREVER, {"stdout": pipe, "stderr": subprocess.STDOUT, "text": True}
    yield FOREVER, {"stdin": subprocess.DEVNULL, "pass_fds": (plain, inheritable), "stdout": pipe}
    yield FOREVER, {"close_fds": False}
    yield ("./here", "infinity"), {"cwd": folder, "env": {"MARK": "é\n", "EMPTY": ""}}
    yield FOREVER, {"start_new_session": True, "restore_signals": False}
    yield FOREVER, {"process_group": 0, "umask": 0o31, "stdin": plain}
    yield "exec sleep infinity # $0", {"shell": True, "env": {"PATH": "/usr/bin:/bin"}}
    yield ("not sleep", "infinity"), {"executable": "/usr/bin/sleep"}


def test_a_member_gets_what_popen_would_give_it(
    keeper: Scopekeeper, session: str, way: str, tmp_path: Path
) -> None:
    (tmp_path / "here").symlink_to("/usr/bin/sleep")
    plain = os.open(tmp_path / "plain", os.O_RDWR | os.O_CREAT)
    inheritable = os.dup(plain)
    os.set_inheritable(inheritable, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with scopekeeper.Cohort(session) as cohort:
            cohort.spawn(FOREVER)
            for command, how in cases(tmp_path, inheritable, plain):
                # os.environ lacks what C libraries have set, as readline does
                with subprocess.Popen(command, **{"env": os.environ, **how}) as process:
                    expected = portrait(process.pid, uncontained=True)
                    process.kill()
                member = cohort.spawn(command, name="one", **how)
                found = portrait(member.pid)
                assert {k for k in found if found[k] != expected[k]} == set(), (
                    how,
                    found,
                    expected,
                )
                assert isinstance(member, subprocess.Popen)
                streams = (member.stdin, member.stdout, member.stderr)
                assert [bool(each) for each in streams] == [
                    how.get(name) == subprocess.PIPE for name in ("stdin", "stdout", "stderr")
                ]
                assert os.path.dirname(directory_of(member.pid)) == scope_directory(session)
                assert directory_of(member.pid) == member.directory
                member.kill()
                assert member.wait() == -signal.SIGKILL
                for stream in filter(None, streams):
                    stream.close()
    finally:
        signal.signal(signal.SIGUSR1, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        os.close(plain)
        os.close(inheritable)


def test_it_is_the_member_that_run_would_make(
    keeper: Scopekeeper, session: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_LANE", "nested")
    monkeypatch.setenv("SCOPEKEEPER_SESSION", session)
    monkeypatch.setenv("SCOPEKEEPER_SESSION_ID", "life-1")
    by_run = keeper.member("-n", "one", "--", *FOREVER, env=os.environ)
    with scopekeeper.Cohort() as cohort:
        mine = cohort.spawn(FOREVER, name="one")
        records = [record_of(directory_of(each.pid)) for each in (by_run, mine)]
        # a child's is there some moments after its posix_spawn has returned
        told = [eventually(lambda pid=each.pid: environment_of(pid)) for each in (by_run, mine)]
        assert [record.pop("PID") for record in records] == [str(by_run.pid), str(mine.pid)]
        start = text_of(f"/proc/{mine.pid}/stat").rpartition(")")[2].split()[19]
        assert records[1]["START"] == start
        leaf = os.path.basename(directory_of(mine.pid))
        assert (mine.member, told[1].pop("SCOPEKEEPER_MEMBER")) == (leaf, leaf)
        del told[0]["SCOPEKEEPER_MEMBER"]
        assert mine.scope == told[1]["SCOPEKEEPER_SCOPE"]
        for record in records:
            for name in ("START", "STARTED", "BOOTTIME", "ID"):
                assert record.pop(name)
        assert records[0] == records[1]
        assert told[0] == told[1]
    assert is_alive(by_run.pid)
    assert not is_alive(mine.pid)


def test_leaving_the_block_leaves_nothing_of_it_and_all_else(
    keeper: Scopekeeper, session: str, way: str
) -> None:
    other = scopekeeper.Cohort(session)
    stays = other.spawn(FOREVER, name="stays")
    with pytest.raises(ZeroDivisionError), scopekeeper.Cohort(session) as cohort:  # noqa: PT012
        command = ["sh", "-c", f"trap '' TERM; {HELPER}"]
        members = [cohort.spawn(command, stdout=subprocess.PIPE) for _ in range(2)]
        gone = cohort.spawn(["sh", "-c", "setsid sleep 1000 & echo $!"], stdout=subprocess.PIPE)
        streams = [each.stdout for each in (*members, gone)]
        helpers = [int(stream.readline()) for stream in streams]
        gone.wait()
        assert cohort.stop(grace=0.05)[0].outcome == "killed"
        assert cohort.stop() == []
        last = cohort.spawn(FOREVER)
        1 / 0  # noqa: B018
    for stream in streams:
        stream.close()
    assert [each.returncode for each in members] == [-signal.SIGKILL] * 2
    assert last.returncode == -signal.SIGTERM
    assert not any(map(is_alive, helpers))
    scope = scope_directory(session)
    assert (processes(scope), is_alive(stays.pid)) == ({stays.pid}, True)
    with pytest.raises(errors.UsageError, match="left"):
        cohort.spawn(FOREVER)
    (result,) = other.stop()
    assert result.outcome == "terminated"
    eventually(lambda: not scope_directories())


def test_what_cannot_be_stopped_is_named(keeper: Scopekeeper, session: str) -> None:
    with pytest.raises(errors.RemainsError) as raised, scopekeeper.Cohort(session) as cohort:  # noqa: PT012
        stays, ends = cohort.spawn(FOREVER, name="stays"), cohort.spawn(FOREVER, name="ends")
        os.setxattr(stays.directory, ATTRIBUTE, b"not ours")
    assert stays.member in str(raised.value)
    assert ends.member not in str(raised.value)
    assert [each.outcome for each in raised.value.results] == ["refused", "terminated"]
    assert (is_alive(stays.pid), is_alive(ends.pid)) == (True, False)
    again = scopekeeper.Cohort(session, run="2")
    with pytest.raises(ZeroDivisionError) as other, again as cohort:  # noqa: PT012
        also = cohort.spawn(FOREVER)
        os.setxattr(also.directory, ATTRIBUTE, b"not ours")
        1 / 0  # noqa: B018
    assert also.member in "".join(other.value.__notes__)
    for each in (stays, also):
        each.kill()
        each.wait()


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside-another"])
def test_what_cannot_be_executed_raises_and_leaves_nothing(
    keeper: Scopekeeper, session: str, way: str, tmp_path: Path, beside: bool
) -> None:
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "bad").write_bytes(b"\x7fELF, but no more")
    (tmp_path / "closed").write_text("#!/bin/sh\n")
    for name in ("lost", "bad"):
        (tmp_path / name).chmod(0o755)
    with contextlib.ExitStack() as stack:
        cohort = stack.enter_context(scopekeeper.Cohort(session))
        if beside:
            cohort.spawn(FOREVER)
        children = children_of(os.getpid())  # other tests may have left some unreaped
        for command, how in (
            ("no-such-program-at-all", {}),
            ("./lost", {"cwd": tmp_path}),
            ("./bad", {"cwd": tmp_path, "stdout": subprocess.PIPE}),
            ("./closed", {"cwd": tmp_path}),
            ("lost", {"env": {"PATH": f"{tmp_path}/none:{tmp_path}"}}),
            ("true", {"cwd": tmp_path / "none"}),
            ("true", {"cwd": tmp_path / "bad"}),
            ("true\0", {}),
            ("true", {"env": {"A=B": "c"}}),
        ):
            with pytest.raises((OSError, ValueError)) as expected:
                subprocess.Popen(command, **how)
            with pytest.raises(type(expected.value)) as raised:
                cohort.spawn([command], **how)
            assert str(raised.value) == str(expected.value)
            open_now = descriptors()
            with pytest.raises(type(expected.value)):
                cohort.spawn([command], **how)
            assert descriptors() == open_now
        directory = scope_directory(session)
        assert len(leaves(directory)) == (1 if beside else 0)
        assert set(children_of(os.getpid())) <= set(children)
    eventually(lambda: not scope_directories())


def test_threads_share_one_scope(keeper: Scopekeeper, session: str, way: str) -> None:
    many = 50 if way == "native" else 8
    with scopekeeper.Cohort(session, "busy") as cohort, ThreadPoolExecutor(many) as pool:
        gate = threading.Barrier(many)

        def start(number: int) -> scopekeeper.Process:
            gate.wait()
            return cohort.spawn(FOREVER, name=f"m{number}")

        members = list(pool.map(start, range(many)))
        (scope,) = scope_directories()
        assert len(leaves(scope)) == many
        assert processes(scope) == {each.pid for each in members}
        assert {directory_of(each.pid) for each in members} == {
            f"{scope}/{leaf}" for leaf in leaves(scope)
        }
        assert all("JOINING" not in record_of(each.directory) for each in members)
    eventually(lambda: not scope_directories())


def test_the_last_neighbour_ends_while_another_is_born(
    keeper: Scopekeeper, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd may forget the scope just then, and the child is in the way as it removes it.

    That is too short a moment to be met: here it has removed it, and all is put back.
    """
    if not posix_spawn.is_there():
        pytest.skip("this C library cannot start a child in a cgroup")
    born: list[int] = []

    def late(leaf: int, *rest: Any) -> tuple[int, int]:
        path = os.readlink(f"/proc/self/fd/{leaf}")
        scope = os.path.dirname(path)
        raw = [os.getxattr(each, ATTRIBUTE) for each in (scope, path)]
        neighbour.kill()
        neighbour.wait()
        eventually(lambda: state(neighbour.scope) == "inactive")
        eventually(lambda: not os.path.exists(scope))
        for each, record in zip((scope, path), raw, strict=True):
            os.mkdir(each)
            os.setxattr(each, ATTRIBUTE, record)
        again = os.open(path, os.O_RDONLY)
        born.append(spawn(again, *rest)[0])
        os.close(again)
        return born[-1], 0

    spawn = posix_spawn.spawn
    with scopekeeper.Cohort(session) as cohort:
        neighbour = cohort.spawn(FOREVER)
        monkeypatch.setattr(posix_spawn, "spawn", late)
        member = cohort.spawn(FOREVER)
        assert born
        assert not any(map(is_alive, born))
        assert state(member.scope) == "active"
        assert directory_of(member.pid) == member.directory
        assert processes(scope_directory(session)) == {member.pid}


def test_joining_starts_no_interpreter(
    keeper: Scopekeeper, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not posix_spawn.is_there():
        pytest.skip("this C library cannot start a child in a cgroup")
    with scopekeeper.Cohort(session) as cohort:
        cohort.spawn(FOREVER)
        monkeypatch.setattr(sys, "executable", "/nonexistent")
        member = cohort.spawn(FOREVER)
        assert os.path.dirname(directory_of(member.pid)) == scope_directory(session)


def test_members_of_a_loop(keeper: Scopekeeper, session: str, way: str) -> None:
    async def gateway() -> list[int]:
        async with scopekeeper.Cohort(session) as cohort:
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            cat = await cohort.spawn_async(["sh", "-c", "cat; echo done >&2; exit 3"], **pipes)
            large = os.urandom(300_000)
            assert await cat.communicate(large) == (large, b"done\n")
            assert (await cat.wait(), cat.returncode) == (3, 3)
            helped = await cohort.spawn_async(["sh", "-c", HELPER], stdout=subprocess.PIPE)
            helper = int(await helped.stdout.readline())
            assert directory_of(helper) == directory_of(helped.pid)
            failed = cohort.spawn_async(["no-such-program-at-all"])
            with pytest.raises(FileNotFoundError):
                await failed
            ended = asyncio.ensure_future(helped.wait())
            helped.terminate()
            assert await ended == -signal.SIGTERM
            assert is_alive(helper)
            cohort.spawn(
                ["sh", "-c", "trap '' TERM; echo; exec sleep 1000"], stdout=-1
            ).stdout.read(1)
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.01)

            ticking = asyncio.ensure_future(tick())
            await cohort.stop_async(grace=0.3)
            assert ticks > 10
            ticking.cancel()
            return [helper, (await cohort.spawn_async(FOREVER)).pid]

    pids = asyncio.run(gateway())
    assert not any(map(is_alive, pids))
    eventually(lambda: not scope_directories())


def test_a_cancelled_task_leaves_its_block_only_when_all_is_gone(
    keeper: Scopekeeper, session: str
) -> None:
    async def gateway() -> int:
        pid = 0

        async def work() -> None:
            nonlocal pid
            async with scopekeeper.Cohort(session, grace=0.2) as cohort:
                command = ["sh", "-c", "trap '' TERM; echo; exec sleep 1000"]
                member = await cohort.spawn_async(command, stdout=subprocess.PIPE)
                await member.stdout.readline()
                pid = member.pid
                await asyncio.sleep(1000)

        task = asyncio.ensure_future(work())
        while not pid:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.02)
        assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    assert not is_alive(asyncio.run(gateway()))
    eventually(lambda: not scope_directories())


GATEWAY = """
import os, sys, scopekeeper
cohort = scopekeeper.Cohort(sys.argv[1], owner=os.getpid())
print(*[cohort.spawn(["sleep", "1000"]).pid for _ in range(2)], flush=True)
input()
"""


def test_what_a_killed_gateway_leaves_is_ended_by_reconcile(
    keeper: Scopekeeper, session: str
) -> None:
    command = [sys.executable, "-c", GATEWAY, session]
    gateway = keeper.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pids = [int(word) for word in gateway.stdout.readline().split()]
    assert all(map(is_alive, pids))
    assert "Nothing" not in keeper.call("reconcile", "--dry-run").stdout
    assert keeper.call("reconcile").returncode == 0
    assert all(map(is_alive, pids))
    gateway.kill()
    gateway.wait()
    assert keeper.call("reconcile").returncode == 0
    assert not any(map(is_alive, pids))


SERVICE = """
import sys, time, scopekeeper
from scopekeeper.python_api import posix_spawn
cohort = scopekeeper.Cohort(sys.argv[1])
cohort.spawn(["sleep", "1000"])
if posix_spawn.is_there():
    sys.executable = "/nonexistent"
cohort.spawn(["sleep", "1000"])
time.sleep(1000)
"""


def test_a_gateway_that_is_a_service_owns_its_members(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    """Also where its own cgroup is its to use: as children of it, they are not its main process."""
    command = (sys.executable, "-c", SERVICE, session)
    units.run("gateway-test.service", "--property=Delegate=yes", command=command)
    scope = eventually(lambda: scope_directory(session))
    assert os.path.dirname(scope) == SLICE
    members = eventually(lambda: len(found := processes(scope)) == 2 and found)
    assert {record_of(f"{scope}/{leaf}")["OWNER_UNIT"] for leaf in leaves(scope)} == {
        "gateway-test.service"
    }
    os.kill(main_pid("gateway-test.service"), signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, members)))


IN_A_KILLED_CGROUP = """
import os, sys, time
import scopekeeper

own = "/sys/fs/cgroup" + open("/proc/self/cgroup").read().rpartition("::")[2].strip()
os.mkdir(own + "/again")
for name, text in (("cgroup.kill", "1"), ("cgroup.procs", "0")):
    with open(f"{own}/again/{name}", "w") as file:
        file.write(text)
with scopekeeper.Cohort(sys.argv[1]) as cohort:
    started = [cohort.spawn(["sleep", "infinity"], name=name) for name in ("a", "b", "c")]
    print([each.pid for each in started], flush=True)
    time.sleep(1000)
"""


def test_a_gateway_in_a_cgroup_that_was_killed_before_starts_members_all_the_same(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    """systemd leaves a unit's cgroup if something stays in it, and starts the unit there again."""
    command = (sys.executable, "-c", IN_A_KILLED_CGROUP, session)
    units.run(f"again-{session[-8:]}.service", "--property=Delegate=yes", command=command)
    scope = eventually(lambda: scope_directory(session))
    members = eventually(lambda: len(found := processes(scope)) == 3 and found)
    names = {record_of(f"{scope}/{leaf}")["NAME"] for leaf in leaves(scope)}
    assert (names, all(map(is_alive, members))) == ({"a", "b", "c"}, True)
    assert keeper.call("stop", "-s", session).returncode == 0


def test_a_member_whose_gateway_was_killed_before_it_wrote_that_is_one(
    keeper: Scopekeeper, session: str
) -> None:
    """The record then still has the gateway's pid, which is gone: others join all the same."""
    owner = keeper.popen([*FOREVER])
    words = ("--owner", str(owner.pid), "--lifetime", "session", "--run", "x")
    alone = keeper.member("-s", session, *words, "--", *FOREVER)
    leaf = directory_of(alone.pid)
    raw = os.getxattr(leaf, ATTRIBUTE).decode()
    gone = subprocess.Popen(["true"])
    gone.wait()
    damaged = raw.replace(f"\nPID={alone.pid}\n", f"\nPID={gone.pid}\nJOINING=child\n")
    os.setxattr(leaf, ATTRIBUTE, damaged.encode())
    (scope,) = keeper.scopes()
    assert scope["state"] == "running"
    assert keeper.run("-s", session, *words, "--", "true").returncode == 0
    assert record_of(leaf)["PID"] == str(alone.pid)
    assert "JOINING" not in record_of(leaf)


def followed_by(pid: int) -> set[int]:
    """Return the processes whose end another one waits for, by its pidfds."""
    folder = f"/proc/{pid}/fdinfo"
    texts = [text_of(f"{folder}/{name}") for name in os.listdir(folder)]
    lines = (line.split() for text in texts for line in text.splitlines())
    return {int(words[1]) for words in lines if words[:1] == ["Pid:"]}


def test_a_keeper_tells_how_a_member_ended(
    keeper: Scopekeeper, session: str, guard: Keeper, way: str
) -> None:
    guard.start()
    owner = keeper.popen(list(FOREVER))
    with scopekeeper.Cohort(session, owner=owner.pid) as cohort:
        cohort.spawn(FOREVER, name="stays")
        brief = cohort.spawn(["sh", "-c", "read x; exit 8"], name="ends", stdin=subprocess.PIPE)
        eventually(lambda: brief.pid in followed_by(guard.pid))
        assert os.getpid() not in followed_by(guard.pid)
        brief.communicate(b"\n")

        def ends() -> dict[object, tuple[object, object]]:
            return {
                end["member"]: (end["reason"], end["exit_status"]) for end in guard.history(session)
            }

        assert eventually(lambda: ends().get("ends")) == ("exited", 8)
    assert eventually(lambda: ends().get("stays")) == ("stopped by request", None)
