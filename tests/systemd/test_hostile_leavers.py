"""A process that leaves its scope, in each way there is: what finds it, and what ends it.

``test_escaped.py`` has what `systemd-run --scope`, `su -` and `runuser -l` leave.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    ROOT,
    Scopekeeper,
    cgroup_of,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    text_of,
)

from .canary import Canaries
from .guard import Keeper
from .manager import MANAGER, Units, main_pid, show, systemd_run_argv
from .test_callers import bare
from .test_other_users import as_user

pytestmark = pytest.mark.systemd

MOVES = """
import os, sys, time
child = os.fork()
if child == 0:
    os.setsid()
    with open(sys.argv[1] + "/cgroup.procs", "w") as file:
        file.write("0")
    print("moved", os.getpid(), flush=True)
time.sleep(1000)
"""
"""Its child writes itself into another cgroup."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Give a cgroup that no unit has, where this user may write."""
    folder = f"{MANAGER}/hostile-{os.getpid()}"
    os.mkdir(folder)
    yield folder
    eventually(lambda: not text_of(f"{folder}/cgroup.procs"))
    os.rmdir(folder)


def mover(keeper: Scopekeeper, session: str, to: str) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a member whose child moves; return both."""
    member = keeper.start("-s", session, "-n", "mover", "--kind", "exec", "--", sys.executable,
                          "-c", MOVES, to, stdout=subprocess.PIPE)  # fmt: skip
    assert member.stdout is not None
    word, pid = member.stdout.readline().split()
    assert word == b"moved"
    return member, int(pid)


def test_one_that_writes_itself_to_another_cgroup_is_named_and_ended_if_asked(
    guard: Keeper, keeper: Scopekeeper, session: str, elsewhere: str
) -> None:
    guard.start()
    canaries = Canaries(keeper, session)
    member, pid = mover(keeper, session, elsewhere)
    assert directory_of(pid) == elsewhere
    found = json.loads(keeper.call("ls", "--escaped", "--json").stdout)["escaped"]
    assert [(each["pid"], each["session"]) for each in found] == [(pid, session)]
    canaries.check()
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 6, done.stdout + done.stderr
    assert f"pid {pid} in " in done.stdout
    assert not is_alive(member.pid)
    assert is_alive(pid)
    canaries.check()
    done = keeper.call("stop", "-s", session, "--escaped")
    assert done.returncode == 0, done.stdout + done.stderr
    eventually(lambda: not is_alive(pid))
    canaries.check()


def test_one_that_writes_itself_into_another_session_ends_with_that_one(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    """The kernel keeps which cgroup a process is in, and that alone says whose it is."""
    guard.start()
    canaries = Canaries(keeper, session)
    theirs = keeper.member("-s", f"{session}:theirs", "-n", "theirs", "--", *FOREVER)
    member, pid = mover(keeper, session, directory_of(theirs.pid))
    assert directory_of(pid) == directory_of(theirs.pid)
    assert keeper.call("reconcile").returncode == 0
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not is_alive(member.pid)
    assert is_alive(theirs.pid), "a stop of the intruder's own session ended another"
    assert is_alive(pid)
    canaries.check()
    done = keeper.call("stop", "-s", f"{session}:theirs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes terminated" in done.stdout
    assert not is_alive(pid)
    canaries.check()


def test_one_that_writes_itself_into_the_keepers_cgroup_has_it_stopped_by_nobody(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    canaries = Canaries(keeper, session)
    _, pid = mover(keeper, session, directory_of(guard.pid))
    assert cgroup_of(pid) == cgroup_of(guard.pid)
    before = guard.pid
    done = keeper.call("stop", "-s", session, "--escaped")
    assert done.returncode == 6, done.stdout + done.stderr
    assert is_alive(pid), "it is in a service, which no proof about a process ends"
    assert guard.pid == before
    os.kill(pid, 9)
    canaries.check()


def test_what_the_manager_starts_for_it_is_no_member(
    guard: Keeper, keeper: Scopekeeper, session: str, units: Units
) -> None:
    """``systemd-run`` without --scope: the manager's child, with the manager's environment."""
    guard.start()
    canaries = Canaries(keeper, session)
    name = f"hostile-{session[-8:]}.service"
    units.adopt(name)
    call = shlex.join(systemd_run_argv(f"--unit={name}", *FOREVER))
    member = keeper.member("-s", session, "--", "sh", "-c", f"{call}; exec sleep 1000")
    pid = eventually(lambda: main_pid(name))
    assert "SCOPEKEEPER_MEMBER" not in environment_of(pid)
    assert keeper.call("reconcile").returncode == 0
    assert keeper.call("stop", "-s", session, "--escaped").returncode == 0
    assert not is_alive(member.pid)
    assert is_alive(pid)
    canaries.check()


def test_without_the_bus_it_can_have_the_manager_start_nothing(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    canaries = Canaries(keeper, session)
    name = f"hostile-{session[-8:]}.service"
    units.adopt(name)
    call = shlex.join(systemd_run_argv(f"--unit={name}", *FOREVER))
    done = keeper.run("-s", session, "--no-bus", "--", "sh", "-c", f"{call}; echo $?")
    if ROOT:  # the system's bus needs no variable
        assert done.stdout == "0\n", done.stderr
    else:
        assert done.stdout == "1\n", done.stderr
        assert not main_pid(name)
    assert keeper.call("stop", "-s", session).returncode == 0
    canaries.check()


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="only root can become another user without a password")
@pytest.mark.parametrize("login", ["su", "systemd-run"])
def test_a_login_that_it_opens_is_named_and_left(
    guard: Keeper, keeper: Scopekeeper, session: str, units: Units, tmp_path: Path, login: str
) -> None:
    """PAM has systemd-logind move it to a session of its own, or start it there."""
    guard.start()
    canaries = Canaries(keeper, session)
    pids = Path(f"/tmp/hostile-{os.getpid()}")
    inner = f"echo $$ > {pids}; exec sleep 1000"
    name = f"hostile-{session[-8:]}.service"
    units.adopt(name)
    words = {
        "su": ["su", "-", "other", "-c", inner],
        "systemd-run": [*systemd_run_argv(f"--unit={name}"), "-pPAMName=login", "-pUser=other",
                        *FOREVER],
    }[login]  # fmt: skip
    try:
        member = keeper.member("-s", session, "--kind", "exec", "--", "sh", "-c",
                               f"umask 0; {shlex.join(words)} & exec sleep 1002")  # fmt: skip
        found = eventually(lambda: text_of(pids) if login == "su" else main_pid(name))
        pid = int(found)
        eventually(lambda: "/session-" in cgroup_of(pid))
        for options, status in (((), 6 if login == "su" else 0), (("--escaped",), None)):
            done = keeper.call("stop", "-s", session, *options)
            assert status is None or done.returncode == status, done.stdout + done.stderr
            assert is_alive(pid), "a login is ended by whoever opened it alone"
            assert not is_alive(member.pid)
            canaries.check()
        subprocess.run(["loginctl", "terminate-user", "other"], check=True)
        eventually(lambda: not is_alive(pid))
    finally:
        pids.unlink(missing_ok=True)
    canaries.check()


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="only root can become another user without a password")
def test_a_service_with_a_user_of_its_own_cannot_be_left(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    """The advice of docs/security.md: the cgroups belong to another user than the process."""
    canaries = Canaries(keeper, session)
    name = f"closed-{session[-8:]}.service"
    refused = (
        "for each in /sys/fs/cgroup /sys/fs/cgroup/system.slice $1; do "
        "(echo 0 > $each/cgroup.procs) 2>&1 && echo moved; done; exec sleep 1000"
    )
    scope = os.path.dirname(directory_of(canaries.member.pid))
    units.run(name, "-pUser=other", "-pWorkingDirectory=/",
              command=("sh", "-c", refused, "sh", scope))  # fmt: skip
    eventually(lambda: text_of(f"/proc/{main_pid(name)}/comm") == "sleep\n")
    assert MOUNT + show(name, "ControlGroup") == directory_of(main_pid(name))
    call = as_user("other", *systemd_run_argv(f"--unit=x-{name}", *FOREVER))
    done = subprocess.run(call, env=bare("other"), cwd="/", capture_output=True, text=True)
    assert done.returncode != 0
    canaries.check()
