"""Runs of a user who logs out: with linger they go on, without they end with his manager."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import PROGRAM, Scopekeeper, eventually, is_alive, scope_directories, text_of
from tests.terminal import Terminal

from .manager import state, systemctl, systemd_run_argv, uid_of
from .test_other_users import as_user

pytestmark = [pytest.mark.systemd, pytest.mark.root]

USER = "other"
UID = uid_of(USER)
MANAGER = f"user@{UID}.service"
LOGIND = Path("/run/systemd/logind.conf.d/scopekeeper-test.conf")
OBEY = """
import json, subprocess, sys
for line in sys.stdin:
    words = json.loads(line)
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    print(json.dumps([done.returncode, done.stdout, done.stderr]), flush=True)
"""


class Login:
    """A login session of the user, in which commands are done."""

    def __init__(self, folder: Path) -> None:
        said = {"PATH": os.environ["PATH"], "SCOPEKEEPER_STATE": f"{folder}/state"}
        self._process = subprocess.Popen(
            [*systemd_run_argv("--pipe", "--wait", "--collect"), "-pPAMName=login",
             f"-pUser={USER}", "-pWorkingDirectory=/",
             *(f"--setenv={name}={value}" for name, value in said.items()),
             "--", sys.executable, "-c", OBEY],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert "/session-" in self.call("cat", "/proc/self/cgroup")[1]

    def call(self, *words: str) -> tuple[int, str, str]:
        """Do a command; return its exit status, and what it said on stdout and stderr."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(words), file=self._process.stdin, flush=True)
        status, output, errors = json.loads(self._process.stdout.readline())
        return status, output, errors

    def end(self) -> None:
        """Log out."""
        self._process.communicate()


@pytest.fixture
def folder(keeper: Scopekeeper) -> Iterator[Path]:
    """Have logouts take effect at once and end all of the session; give a folder of the user's."""
    assert keeper
    LOGIND.parent.mkdir(parents=True, exist_ok=True)
    LOGIND.write_text("[Login]\nUserStopDelaySec=0\nKillUserProcesses=yes\n")
    reload_logind()
    made = Path(tempfile.mkdtemp(dir="/var/tmp"))
    os.chown(made, UID, UID)
    yield made
    subprocess.run(["loginctl", "disable-linger", USER], check=True)
    subprocess.run(["loginctl", "terminate-user", USER], capture_output=True)
    eventually(lambda: state(MANAGER) in ("inactive", "failed"))
    LOGIND.unlink()
    reload_logind()
    shutil.rmtree(made)


def reload_logind() -> None:
    assert systemctl("kill", "--signal=HUP", "systemd-logind.service").returncode == 0


@pytest.fixture
def login(folder: Path) -> Iterator[Callable[[], Login]]:
    """Give what logs the user in."""
    made: list[Login] = []

    def log_in() -> Login:
        made.append(Login(folder))
        return made[-1]

    yield log_in
    for each in made:
        each.end()


def begin(user: Login, session: str, script: str) -> tuple[str, int, str]:
    """Start a run; return its id, its process, and what was said on stderr."""
    status, output, errors = user.call(
        PROGRAM, "exec", "-d", "--json", "-s", session, "--", "sh", "-c", script
    )
    assert status == 0, errors
    told = json.loads(output)
    return told["run"], told["pid"], errors


def test_runs_go_on_after_a_logout_with_linger_and_end_with_it_without(
    session: str, folder: Path, login: Callable[[], Login]
) -> None:
    user = login()
    status, told, _ = user.call(PROGRAM, "doctor")
    assert status == 1
    assert "at the last logout" in told
    assert f"loginctl enable-linger {USER}" in told
    assert "`systemctl stop` of the keeper hangs up the terminals" in told, "none is installed"
    status, _, warning = user.call(PROGRAM, "install", "--dry-run")
    assert status == 0, warning
    assert "at this user's last logout" in warning
    assert f"loginctl enable-linger {USER}" in warning
    run, pid, warning = begin(user, session, "echo hi; exec cat")
    assert len(warning.splitlines()) == 1, warning
    assert f"the last logout of {USER}" in warning
    assert f"loginctl enable-linger {USER}" in warning
    assert subprocess.run(["loginctl", "enable-linger", USER]).returncode == 0
    status, _, warning = user.call(PROGRAM, "install", "--dry-run")
    assert (status, "logout" in warning, warning.count("\n")) == (0, False, 1), warning
    assert "a keeper that was not installed still runs" in warning
    deaf, deaf_pid, warning = begin(user, f"{session}:deaf", "trap '' HUP; exec sleep infinity")
    assert not warning
    eventually(lambda: text_of(f"/proc/{deaf_pid}/comm") == "sleep\n")
    user.end()

    eventually(lambda: user_state() == "lingering")
    assert state(MANAGER) == "active"
    environment = {"HOME": "/", "SCOPEKEEPER_STATE": f"{folder}/state"}
    again = Terminal(as_user(USER, PROGRAM, "attach", run), environment=environment)
    again.expect("hi")
    again.type("still here\n")
    again.expect("still here\r\nstill here")
    again.end()
    assert is_alive(pid)

    user = login()
    assert subprocess.run(["loginctl", "disable-linger", USER]).returncode == 0
    user.end()
    eventually(lambda: state(MANAGER) == "inactive")
    assert not is_alive(pid)
    assert not is_alive(deaf_pid)
    assert not scope_directories()

    user = login()
    for each, name in ((run, session), (deaf, f"{session}:deaf")):
        status, output, errors = user.call(PROGRAM, "wait", "--json", each)
        assert status == 143, errors
        (told,) = json.loads(output)["runs"]
        assert (told["reason"], told["signal"]) == ("signalled", 15)
        assert "as the user's manager stopped" in told["evidence"]
        (end,) = json.loads(user.call(PROGRAM, "history", "--json", "-s", name)[1])["ends"]
        assert (end["reason"], end["evidence"]) == (told["reason"], told["evidence"])
        assert "was ended by SIGTERM" in user.call(PROGRAM, "why", each)[1]
    assert "still here" in user.call(PROGRAM, "logs", run)[1]


def user_state() -> str:
    """Return what systemd-logind calls the user."""
    asked = ["loginctl", "show-user", "--value", "--property=State", USER]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip()
