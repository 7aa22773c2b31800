"""Callers that are other users, or in a login session; only root can be all of them."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    PROGRAM,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    processes,
    record_of,
    scope_directories,
    scope_directory,
    text_of,
    wait_for_command,
)

from .manager import Units, main_pid, show, state, systemd_run_argv, uid_of
from .test_callers import bare

pytestmark = pytest.mark.systemd

USER_SLICE = "{0}/user.slice/user-{1}.slice/user@{1}.service/scopekeeper.slice".format(
    MOUNT, uid_of("lab")
)
OTHER = uid_of("other")


def as_user(user: str, *command: str) -> list[str]:
    """Return the words that run a command as a user, with nothing of a login."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *command]


@pytest.fixture
def login(request: pytest.FixtureRequest) -> list[str]:
    """Give the words that run a command in a login session of lab."""
    path = f"--setenv=PATH={os.environ['PATH']}"
    name = f"login-{os.getpid()}-{abs(hash(request.node.nodeid)) % 10**6}"
    return [
        *systemd_run_argv("--pipe", "--wait", "--collect", f"--unit={name}", path),
        "-pPAMName=login", "-pUser=lab", "-pWorkingDirectory=/", "--",
    ]  # fmt: skip


def test_a_login_session_creates_and_joins(
    keeper: Scopekeeper, session: str, login: list[str]
) -> None:
    argv = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    see = "cat /proc/self/cgroup >&2"
    caller = keeper.popen(
        [*login, "sh", "-c", f"{see}; {argv} & {argv} & wait"], stderr=subprocess.PIPE
    )
    scope = eventually(lambda: scope_directory(session, USER_SLICE))
    eventually(lambda: len(processes(scope)) == 2)
    for pid in processes(scope):
        eventually(lambda pid=pid: text_of(f"/proc/{pid}/comm") == "sleep\n")
        assert os.path.dirname(directory_of(pid)) == scope
    path = caller.stderr.readline().decode()
    while not path.startswith("0::"):
        path = caller.stderr.readline().decode()
    assert "session-" in path, "the caller was in no login session"
    assert text_of(f"{scope}/cgroup.procs") == ""


GATEWAY = """
import os, sys, scopekeeper
with scopekeeper.Cohort(sys.argv[1]) as cohort:
    members = [cohort.spawn(["sleep", "1000"]) for _ in range(2)]
    for pid in (os.getpid(), *(each.pid for each in members)):
        print(pid, *[line[3:] for line in open(f"/proc/{pid}/cgroup") if line[0] == "0"], end="")
"""


def test_a_gateway_in_python_in_a_login_session_has_its_members_moved(
    keeper: Scopekeeper, session: str, login: list[str]
) -> None:
    """The kernel lets no child of it be born in the scope: systemd moves a launcher there."""
    done = subprocess.run(
        [*login, sys.executable, "-c", GATEWAY, session], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    own, *members = (line.split() for line in done.stdout.splitlines())
    assert "session-" in own[1]
    scopes = {os.path.dirname(path) for _, path in members}
    assert len(members) == 2
    assert [os.path.dirname(each) for each in scopes] == [USER_SLICE[len(MOUNT) :]]
    assert not any(is_alive(int(pid)) for pid, _ in members)


def test_what_a_login_session_started_is_orphaned_by_its_end(
    keeper: Scopekeeper, session: str, login: list[str]
) -> None:
    argv = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    caller = keeper.popen([*login, "sh", "-c", f"{argv} & read end"], stdin=subprocess.PIPE)
    scope = eventually(lambda: scope_directory(session, USER_SLICE))
    (pid,) = eventually(lambda: processes(scope))
    eventually(lambda: text_of(f"/proc/{pid}/comm") == "sleep\n")
    caller.communicate(b"\n")
    assert is_alive(pid)
    done = subprocess.run(
        as_user("lab", PROGRAM, "reconcile"), env=bare("lab"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not is_alive(pid)


def test_a_user_without_a_manager_is_told_in_one_line(keeper: Scopekeeper, session: str) -> None:
    launch = as_user("other", *keeper.argv("-s", session, "--", "echo", "ran"))
    done = subprocess.run(launch, env=bare("other"), capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stdout) == (125, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"/run/user/{OTHER}" in done.stderr
    assert "doctor" in done.stderr


def test_a_user_without_a_manager_can_ask_to_run_all_the_same(
    keeper: Scopekeeper, session: str
) -> None:
    launch = as_user(
        "other",
        *keeper.argv("-s", session, "--if-unavailable=warn", "--", "sh", "-c", "env; exit 3"),
    )
    done = subprocess.run(launch, env=bare("other"), capture_output=True, text=True, cwd="/")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "uncontained" in done.stderr
    assert "SCOPEKEEPER_" not in done.stdout


def test_a_service_of_a_user_without_a_manager_uses_its_delegated_cgroup(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    name = f"delegated-{os.getpid()}.service"
    units.run(
        name,
        "-pUser=other",
        "-pDelegate=yes",
        "-pWorkingDirectory=/",
        command=tuple(keeper.argv("-s", session, "--", *FOREVER)),
    )
    inside = show(name, "ControlGroup") + "/scopekeeper-"
    eventually(lambda: cgroup_of(main_pid(name)).startswith(inside))
    assert state(name) == "active"


def test_a_gateway_of_a_user_without_a_manager_launches_into_its_delegated_cgroup(
    keeper: Scopekeeper, session: str, units: Units
) -> None:
    name = f"gateway-{os.getpid()}.service"
    argv = shlex.join(keeper.argv("-s", session, "--", *FOREVER))
    units.run(
        name,
        "-pUser=other",
        "-pDelegate=yes",
        "-pWorkingDirectory=/",
        command=("sh", "-c", f"{argv} & {argv} & exec sleep infinity"),
    )
    folder = MOUNT + show(name, "ControlGroup")
    scope = eventually(lambda: scope_directory(session, folder))
    eventually(lambda: len(processes(scope)) == 2)
    assert os.stat(scope).st_uid == OTHER


def test_roots_reconcile_and_stop_leave_another_users_scopes_alone_unless_named(
    keeper: Scopekeeper, session: str
) -> None:
    owner = keeper.popen(as_user("lab", "sleep", "infinity"))
    eventually(lambda: text_of(f"/proc/{owner.pid}/comm") == "sleep\n")
    launch = as_user("lab", *keeper.argv("-s", session, f"--owner={owner.pid}", "--", *FOREVER))
    process = keeper.popen(launch, env=bare("lab"), cwd="/")
    wait_for_command(process)
    scope = os.path.dirname(directory_of(process.pid))
    assert scope.startswith(USER_SLICE + "/")
    assert record_of(directory_of(process.pid))["OWNER_PID"] == str(owner.pid)
    owner.kill()
    owner.wait()
    assert keeper.call("reconcile").returncode == 0
    assert is_alive(process.pid)
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_alive(process.pid)
    eventually(lambda: not scope_directories())
