"""The keeper as the README installs it: it is started when it is needed, replaced, and killed."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    ROOT,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    is_emulated,
    leaves,
    processes,
    rounds,
    scope_directories,
    scope_directory,
    text_of,
)

from .installed import FILES, UNIT, Installed
from .manager import Units, main_pid, show, state, systemctl

pytestmark = pytest.mark.systemd

NAME = "org.scopekeeper.Keeper1"
BUS = (NAME, "/org/scopekeeper/Keeper1", NAME)
SYSTEM_BUS = Path("/etc/dbus-1/system.d"), Path("/usr/local/share/dbus-1/system-services")
USER_BUS = Path(f"/run/user/{os.getuid()}/dbus-1/services")


def busctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call something on our bus."""
    scope = "--system" if ROOT else "--user"
    return subprocess.run(
        ["busctl", scope, "--json=short", *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def on_the_bus(installed: Installed) -> Iterator[Installed]:
    """Install the files for the bus too."""
    conf, service = FILES / f"{NAME}.conf", FILES / f"{NAME}.service"
    copies = [SYSTEM_BUS[0] / conf.name, SYSTEM_BUS[1] / service.name]
    copies = copies if ROOT else [USER_BUS / service.name]
    made = [
        folder
        for folder in dict.fromkeys(each for copy in copies for each in copy.parents)
        if not folder.exists()
    ]
    for copy in copies:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(conf if copy.suffix == ".conf" else service, copy)
    reload = ("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ReloadConfig")
    assert busctl(*reload).returncode == 0
    yield installed
    for copy in copies:
        copy.unlink()
    for folder in made:
        folder.rmdir()
    busctl(*reload)


def gateway(keeper: Scopekeeper) -> "subprocess.Popen[bytes]":
    """Start a process that owns something and does nothing."""
    return keeper.popen(list(FOREVER))


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def test_the_first_scope_starts_it(installed: Installed, keeper: Scopekeeper, session: str) -> None:
    assert installed.pid == 0
    owner = gateway(keeper)
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    eventually(lambda: state(UNIT) == "active")
    end(owner)
    assert member.wait(PATIENCE) == -signal.SIGTERM


def test_who_looks_whether_there_is_one_does_not_keep_it_from_starting(
    installed: Installed, keeper: Scopekeeper
) -> None:
    lock = Path("/run/scopekeeper" if ROOT else f"/run/user/{os.getuid()}/scopekeeper/")
    lock.mkdir(exist_ok=True)
    with (lock / "keeper.lock").open("a") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert systemctl("start", "--no-block", UNIT).returncode == 0
        pid = eventually(lambda: installed.pid)
        eventually(lambda: str(lock / "keeper.lock") in links(pid))
    eventually(lambda: state(UNIT) != "activating")
    assert (state(UNIT), installed.pid) == ("active", pid)
    other = keeper.call("keeper")
    assert (other.returncode, "runs already" in other.stderr) == (1, True)


def links(pid: int) -> list[str]:
    """Return what a process has open."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(descriptor))
    return found


def test_a_call_starts_it_and_is_answered_of_what_runs(
    on_the_bus: Installed, keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member("-s", session, "--owner", str(os.getpid()), "--", *FOREVER)
    for _ in rounds(10, least=2, seconds=1):
        assert systemctl("stop", UNIT).returncode == 0
        listed = busctl("call", *BUS, "List")
        assert listed.returncode == 0, listed.stderr
        (scope,) = json.loads(listed.stdout)["data"][0]
        assert scope["session"]["data"] == session
        assert is_alive(on_the_bus.pid)
    systemctl("stop", UNIT)
    stopped = busctl("call", *BUS, "Stop", "a{sv}s", "1", "session", "s", session, "by a call")
    assert stopped.returncode == 0, stopped.stderr
    assert member.wait(PATIENCE) == -signal.SIGTERM


def test_what_happens_while_it_is_restarted_is_found_and_nothing_else_ends(
    installed: Installed, keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    folder = tmp_path / "turn"
    folder.mkdir()
    owners = [gateway(keeper) for _ in range(3)]
    members = [
        keeper.member("-s", session, "-n", f"m{number}", "--owner", str(owner.pid),
                      *(["--own", str(folder)] if number == 1 else []), "--", *FOREVER)
        for number, owner in enumerate(owners)
    ]  # fmt: skip
    first = eventually(lambda: installed.pid)
    assert systemctl("restart", UNIT).returncode == 0
    assert installed.pid not in (0, first)
    assert systemctl("stop", UNIT).returncode == 0
    end(owners[1])
    end(members[2])
    assert [member.poll() for member in members] == [None, None, -signal.SIGKILL]
    assert folder.exists()
    assert systemctl("start", UNIT).returncode == 0
    assert members[1].wait(PATIENCE) == -signal.SIGTERM
    eventually(lambda: not folder.exists())
    eventually(lambda: ("m1", "owner gone") in installed.ends(session))
    assert members[0].poll() is None
    eventually(lambda: len(leaves(scope_directory(session))) == 1)
    assert {name for name, _ in installed.ends(session)} == {"m1", "m2"}


def test_it_works_while_its_own_files_are_replaced_and_after_its_restart(
    installed: Installed, keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    """It runs from a copy here, so that nobody else's installation is touched."""
    copy = tmp_path / "lib/scopekeeper"
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import scopekeeper; print(scopekeeper.__path__[0])"],
        capture_output=True, text=True, check=True, cwd="/",
    ).stdout.strip()  # fmt: skip
    shutil.copytree(where, copy)
    starter = tmp_path / "keeper"
    starter.write_text("from scopekeeper.cli.main import main\nmain()\n")
    installed.write(f"{sys.executable} -P {starter} keeper", PYTHONPATH=str(copy.parent))
    owners = [gateway(keeper) for _ in range(3)]
    members = [
        keeper.member("-s", f"{session}:{number}", "--owner", str(owner.pid), "--", *FOREVER)
        for number, owner in enumerate(owners)
    ]
    pid = eventually(lambda: installed.pid)
    eventually(lambda: state(UNIT) == "active")
    copy.rename(tmp_path / "old")
    end(owners[0])
    assert members[0].wait(PATIENCE) == -signal.SIGTERM
    eventually(lambda: len(scope_directories()) == 2)
    assert installed.pid == pid
    shutil.copytree(tmp_path / "old", copy)
    assert systemctl("restart", UNIT).returncode == 0
    assert installed.pid not in (0, pid)
    assert [member.poll() for member in members] == [-signal.SIGTERM, None, None]
    end(owners[1])
    assert members[1].wait(PATIENCE) == -signal.SIGTERM
    eventually(lambda: installed.ends(f"{session}:0") == [("sleep", "owner gone")])
    eventually(lambda: installed.ends(f"{session}:1") == [("sleep", "owner gone")])
    assert members[2].poll() is None


def test_what_a_service_started_ends_with_it_after_systemd_executed_itself_anew(
    installed: Installed, keeper: Scopekeeper, units: Units, session: str
) -> None:
    name = f"gateway-{session[-8:]}.service"
    units.write(
        name,
        f"""\
[Service]
Environment=PATH={os.environ["PATH"]}
ExecStart=/bin/sh -c '{PROGRAM} run -s {session} -n $$$$ -- sleep infinity & exec sleep infinity'
""",
    )
    assert systemctl("start", name).returncode == 0
    scope = eventually(lambda: scope_directory(session))
    (old,) = eventually(lambda: leaves(scope))
    pid = eventually(lambda: installed.pid)
    assert systemctl("daemon-reexec").returncode == 0
    eventually(lambda: show(UNIT, "ActiveState") == "active")
    assert installed.pid == pid
    assert leaves(scope) == [old]
    assert systemctl("restart", name).returncode == 0
    eventually(lambda: leaves(scope_directory(session)) not in ([], [old]))
    eventually(lambda: old not in leaves(scope_directory(session)))
    assert len(leaves(scope_directory(session))) == 1
    assert systemctl("stop", name).returncode == 0
    eventually(lambda: not scope_directories())


def test_a_service_has_ended_although_something_of_it_stays_in_its_cgroup(
    installed: Installed, keeper: Scopekeeper, units: Units, session: str, tmp_path: Path
) -> None:
    rules = tmp_path / "rules/config.toml"
    rules.parent.mkdir()
    rules.write_text('[lanes.default]\nsession_grace = "0s"\n')
    name = f"gateway-{session[-8:]}.service"
    run = f"{PROGRAM} run -s {session} --lifetime session -- sleep infinity"
    units.write(
        name,
        f"""\
[Service]
KillMode=process
Environment=PATH={os.environ["PATH"]}
ExecStart=/bin/sh -c 'sleep infinity & {run} & exec sleep infinity'
""",
    )
    assert systemctl("start", name).returncode == 0
    scope = eventually(lambda: scope_directory(session))
    (member,) = eventually(lambda: processes(scope))
    eventually(lambda: text_of(f"/proc/{member}/comm") == "sleep\n")
    eventually(lambda: state(UNIT) == "active")
    cgroup = directory_of(main_pid(name))
    assert systemctl("stop", name).returncode == 0
    left = processes(cgroup)
    assert left
    eventually(lambda: not is_alive(member))
    assert processes(cgroup) == left, "what was never in a scope is none of our business"
    for pid in left:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside-another"])
def test_killed_at_any_moment_of_a_stop_it_leaves_the_rest_to_the_next(
    installed: Installed, keeper: Scopekeeper, session: str, tmp_path: Path, alone: bool
) -> None:
    """Alone its scope goes with it, and what was not written down by then is lost with that."""
    span = 2.0 if is_emulated() else 0.15
    if not alone:
        other = keeper.member("-s", session, "-n", "other", "--owner", str(os.getpid()), "--",
                              *FOREVER)  # fmt: skip
    else:
        assert systemctl("start", UNIT).returncode == 0
    for count, part in enumerate(rounds(20, least=4), 1):
        owner, folder = gateway(keeper), tmp_path / f"turn{count}"
        folder.mkdir()
        member = keeper.member(
            "-s", session, "-n", f"m{count}", "--owner", str(owner.pid), "--own", str(folder),
            "--", *FOREVER,
        )  # fmt: skip
        pid = eventually(lambda: installed.pid)
        eventually(lambda: state(UNIT) == "active")
        end(owner)
        time.sleep(span * part)  # sweeps the kill over the whole of the stop
        os.kill(pid, signal.SIGKILL)
        assert member.wait(PATIENCE) in (-signal.SIGTERM, -signal.SIGKILL)
        eventually(lambda folder=folder: not folder.exists())
        eventually(lambda pid=pid: installed.pid not in (0, pid))
    assert not text_of(f"/proc/{member.pid}/stat")
    eventually(lambda: len(scope_directories()) == (0 if alone else 1))
    told = installed.ends(session)
    assert len({name for name, _ in told}) == len(told), "nothing is told twice"
    if not alone:
        assert other.poll() is None
        eventually(lambda: len(leaves(scope_directory(session))) == 1)
        eventually(lambda: len(installed.ends(session)) == count)
        told = installed.ends(session)
    assert {reason for _, reason in told} == {"owner gone"}, told
