"""A launch that is one too many for the memory of the machine is refused, or waits."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import scopekeeper
from scopekeeper.errors import ShortageError
from scopekeeper.python_api import posix_spawn
from tests.machine import (
    FOREVER,
    PROGRAM,
    ROOT,
    SHELL,
    Scopekeeper,
    cgroup_of,
    directory_of,
    leaves,
    scope_directories,
    scope_directory,
    wait_for_command,
)
from tests.terminal import Terminal

from .installed import UNIT
from .manager import Units, systemd_run_argv

pytestmark = pytest.mark.systemd

NEVER = '[lanes.default]\nmin_available = "8000T"\n'
"""No machine has so much."""
ALWAYS = '[lanes.default]\nmin_available = "1M"\n'
WAITING = f'{NEVER}when_short = "wait"\nwait_most = '
EAT = "data = bytearray(b'x' * (200 << 20)); print('eaten', flush=True); input()"


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a hand that writes the user's policy."""
    folder = tmp_path / "rules"
    folder.mkdir()
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(folder))

    def write(text: str) -> None:
        (folder / "config.toml").write_text(text)

    return write


def refused(done: subprocess.CompletedProcess[str], name: str, status: int = 125) -> str:
    """Check that a launch was refused, and return its one line."""
    assert (done.returncode, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"scopekeeper: the machine is short of memory for {name} in the lane main: "
    )
    assert "min_available is 8000.0T; " in line
    return line


def test_neither_the_first_nor_the_next_member_starts(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None], tmp_path: Path
) -> None:
    rules(NEVER)
    mark = tmp_path / "began"
    launch = ("-s", session, "-n", "time", "--", "touch", str(mark))
    refused(keeper.run(*launch), "time")
    assert not scope_directories()
    rules(ALWAYS)
    member = keeper.member("-s", session, "-n", "time", "--", *FOREVER)
    rules(NEVER)
    refused(keeper.run(*launch), "time")
    refused(keeper.run("--if-unavailable=warn", *launch), "time")
    refused(keeper.run("--replace", *launch), "time")
    assert member.poll() is None, "nothing makes room for what does not start"
    assert leaves(scope_directory(session)) == [os.path.basename(directory_of(member.pid))]
    assert not mark.exists()
    rules(NEVER.replace("default", "cron"))
    assert keeper.run(*launch).returncode == 0
    assert mark.exists()


def test_a_path_is_not_handed_over_to_what_does_not_start(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None], tmp_path: Path
) -> None:
    rules(NEVER)
    kept = tmp_path / "kept"
    kept.mkdir()
    refused(keeper.run("-s", session, "-n", "time", "--own", str(kept), "--", "true"), "time")
    keeper.call("reconcile")
    assert kept.is_dir()


def test_the_rules_of_one_server_are_its_own(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None]
) -> None:
    rules('[servers.browser]\nmin_available = "8000T"\n')
    refused(keeper.run("-s", session, "-n", "browser", "--", "true"), "browser")
    assert keeper.run("-s", session, "-n", "time", "--", "true").returncode == 0
    assert keeper.run("-s", session, "-n", "browser", "--kind=exec", "--", "true").returncode == 0


@pytest.mark.controllers
def test_it_names_what_uses_most(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None]
) -> None:
    keeper.member("-s", f"{session}:little", "--", *FOREVER)
    eater = keeper.start("-s", f"{session}:most", "--", sys.executable, "-c", EAT, stdin=-1,
                         stdout=subprocess.PIPE)  # fmt: skip
    assert eater.stdout.readline() == b"eaten\n"
    rules(NEVER)
    line = refused(keeper.run("-s", session, "-n", "time", "--", "true"), "time")
    hint = line.partition("; most is used by ")[2]
    first, second = hint.partition("; ")[0].split(", ")[:2]
    assert hint.endswith("; scopekeeper stop -s SESSION ends one")
    assert first.endswith("M)")
    assert ":most (" in first
    assert ":little (" in second


def test_exec_place_and_the_shell_obey_and_a_person_gets_a_shell(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None], units: Units,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rules(NEVER)
    units.adopt(UNIT)
    refused(keeper.call("exec", "-s", session, "--", "echo", "here"), "echo")
    refused(keeper.call("place", "-s", session, "-n", "time"), "time", 1)
    monkeypatch.setenv("SCOPEKEEPER_SESSION", session)
    line = [SHELL, "-c", "echo here"]
    done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    refused(done, "echo")
    assert not scope_directories()
    terminal = Terminal([SHELL])
    terminal.expect(r"[$#] ")
    assert "/m-" in cgroup_of(terminal.pid), "it is contained, and free to stop something"
    terminal.type("exit\n")
    assert terminal.status() == 0


def test_doctor_tries_a_launch_all_the_same(
    keeper: Scopekeeper, rules: Callable[[str], None]
) -> None:
    rules(NEVER)
    printed = keeper.call("doctor").stdout
    assert "a scope was created, recorded and stopped" in printed


def test_it_waits_with_one_line_and_then_refuses(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None]
) -> None:
    rules(f'{WAITING}"700ms"\n')
    began = time.monotonic()
    done = keeper.run("-s", session, "-n", "time", "--", "echo", "here")
    assert time.monotonic() - began >= 0.7
    assert (done.returncode, done.stdout) == (125, "")
    first, last = done.stderr.splitlines()
    assert first.startswith("scopekeeper: waiting for memory, at most 0.7s: ")
    assert ", also after 0.7s; " in last


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_wait_at_once(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None], number: int
) -> None:
    rules(f'{WAITING}"1h"\n')
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    waiting = keeper.start("-s", session, "-n", "time", "--", "cat", **pipes)
    assert waiting.stderr.readline().startswith(b"scopekeeper: waiting for memory, at most 1h: ")
    waiting.send_signal(number)
    assert waiting.wait(10) == -number
    assert waiting.communicate() == (b"", b"")
    assert not scope_directories()


FAKE = """
sed 's/^MemAvailable:.*/MemAvailable: 1000 kB/' /proc/meminfo >"$1"
mount --bind "$1" /proc/meminfo && shift && exec "$@"
"""
"""Does a command that sees little memory available, until somebody writes into the file."""
root_only = pytest.mark.skipif(not ROOT, reason="only root mounts a file over another")


@root_only
def test_what_waits_starts_when_there_is_enough_and_has_read_nothing(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None], tmp_path: Path
) -> None:
    rules('[lanes.default]\nmin_available = "2M"\nwhen_short = "wait"\nwait_most = "1h"\n')
    fake = tmp_path / "meminfo"
    launch = [PROGRAM, "run", "-s", session, "-n", "time", "--", "cat"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    server = keeper.popen(
        ["unshare", "--mount", "sh", "-c", FAKE, "sh", str(fake), *launch], **pipes
    )
    line = server.stderr.readline()
    assert line.endswith(b": 1000K is available, min_available is 2M\n")
    server.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
    server.stdin.flush()
    assert not scope_directories()
    with fake.open("r+") as file:
        file.write("MemAvailable: 9000 kB\n".ljust(fake.stat().st_size))
    assert b"ping" in server.stdout.readline()
    wait_for_command(server)
    assert os.path.dirname(directory_of(server.pid)) == scope_directory(session)
    server.stdin.close()
    assert server.wait() == 0
    assert server.stderr.read() == b""


@root_only
@pytest.mark.parametrize("option", ["ProcSubset=pid", "InaccessiblePaths=/proc/meminfo"])
def test_a_machine_that_cannot_be_read_lets_it_through(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None], tmp_path: Path, option: str
) -> None:
    assert keeper
    rules(NEVER)
    words = ["--wait", "--pipe", "-p", option, f"--setenv=SCOPEKEEPER_CONFIG={tmp_path}/rules"]
    launch = [PROGRAM, "run", "-s", session, "--", "echo", "here"]
    done = subprocess.run([*systemd_run_argv(*words), *launch], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr


@root_only
def test_the_systems_rules_hold_until_ones_own_override_them(
    keeper: Scopekeeper, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(own))
    system = Path("/etc/scopekeeper/config.toml")
    assert not system.exists()
    made = not system.parent.exists()
    system.parent.mkdir(exist_ok=True)
    try:
        system.write_text(NEVER)
        launch = ("-s", session, "-n", "time", "--", "true")
        refused(keeper.run(*launch), "time")
        (own / "config.toml").write_text(ALWAYS)
        assert keeper.run(*launch).returncode == 0
    finally:
        system.unlink()
        if made:
            system.parent.rmdir()


# from Python


@pytest.fixture(params=["native", "launcher"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Start members in each of the two ways that this machine's C library has."""
    if request.param == "launcher":
        monkeypatch.setattr(posix_spawn, "is_there", lambda: False)
    elif not posix_spawn.is_there():
        pytest.skip("this C library cannot start a child in a cgroup; the other way is tested")
    return str(request.param)


def test_a_cohort_raises_and_its_members_go_on(
    keeper: Scopekeeper, session: str, way: str, rules: Callable[[str], None]
) -> None:
    assert keeper
    assert way
    with scopekeeper.Cohort(session) as cohort:
        rules(NEVER)
        with pytest.raises(ShortageError, match="short of memory for time"):
            cohort.spawn(["true"], name="time")
        assert not scope_directories()
        rules(ALWAYS)
        member = cohort.spawn(FOREVER)
        rules(NEVER)
        with pytest.raises(ShortageError, match="short of memory for time"):
            cohort.spawn(["true"], name="time")
        assert leaves(scope_directory(session)) == [member.member]
        assert member.poll() is None
        with pytest.raises(ShortageError):
            cohort.place("time")


def test_a_cohort_waits_and_a_loop_goes_on_meanwhile(
    keeper: Scopekeeper, session: str, way: str, rules: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    assert keeper
    assert way
    rules(ALWAYS)

    async def gateway() -> None:
        async with scopekeeper.Cohort(session) as cohort:
            await cohort.spawn_async(FOREVER)
            rules(f'{WAITING}"2s"\n')
            starting = asyncio.create_task(cohort.spawn_async(["true"], name="time"))
            with caplog.at_level(logging.WARNING, "scopekeeper"):
                while not caplog.messages:
                    assert not starting.done()
                    await asyncio.sleep(0.01)
            assert caplog.messages[0].startswith("waiting for memory, at most 2.0s: ")
            with pytest.raises(ShortageError, match=r"also after 2\.0s"):
                await starting

    asyncio.run(gateway())


def test_an_interrupt_ends_the_wait_of_a_gateway(
    keeper: Scopekeeper, session: str, rules: Callable[[str], None]
) -> None:
    rules(f'{WAITING}"1h"\n')
    program = f"import scopekeeper; scopekeeper.spawn(['true'], name='time', session={session!r})"
    gateway = keeper.popen(
        [sys.executable, "-P", "-c", program], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert b"waiting for memory" in gateway.stderr.readline()
    gateway.send_signal(signal.SIGINT)
    assert gateway.wait(10) == -signal.SIGINT
    assert not scope_directories()
