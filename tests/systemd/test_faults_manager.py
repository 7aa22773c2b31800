"""A user's manager is killed while runs live: what is left, what it is told as, what comes back."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import PROGRAM, eventually, is_alive, scope_directories

from .faults import Faults, note, one_line
from .manager import main_pid, state, systemctl, uid_of
from .test_other_users import as_user

pytestmark = [pytest.mark.systemd, pytest.mark.root, pytest.mark.timeout(600)]

USER = "other"
UID = uid_of(USER)
MANAGER = f"user@{UID}.service"
RUNTIME = f"/run/user/{UID}"


class Her:
    """The user whose manager is killed: her commands, and where her state is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def argv(self, *words: str) -> list[str]:
        about = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "XDG_RUNTIME_DIR": RUNTIME,
                 "SCOPEKEEPER_STATE": f"{self.folder}/state"}  # fmt: skip
        given = [f"{name}={value}" for name, value in about.items()]
        return as_user(USER, "env", "-i", *given, *words)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(PROGRAM, *words), cwd="/", stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def member(self, session: str, name: str, *options: str) -> "subprocess.Popen[bytes]":
        argv = self.argv(PROGRAM, "run", "-s", session, "-n", name, *options)
        process = subprocess.Popen([*argv, "--", "sleep", "infinity"], cwd="/")
        eventually(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        return process

    def ends(self, session: str) -> dict[str, list[str]]:
        """Return the reasons that the history has of each member."""
        done = self.call("history", "-s", session, "--json")
        one_line(done)
        found: dict[str, list[str]] = {}
        for each in json.loads(done.stdout)["ends"]:
            found.setdefault(each["member"], []).append(each["reason"])
        return found


@pytest.fixture
def her(faults: Faults) -> Iterator[Her]:
    """Start her manager; afterwards she is as before."""
    assert faults
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    os.chown(folder, UID, UID)
    subprocess.run(["loginctl", "enable-linger", USER], check=True)
    start()
    yield Her(folder)
    subprocess.run(["loginctl", "disable-linger", USER], check=True)
    systemctl("stop", MANAGER)
    systemctl("reset-failed", MANAGER)
    eventually(lambda: state(MANAGER) in ("inactive", "failed"))
    subprocess.run(["rm", "-r", folder], check=True)


def start() -> None:
    """Start her manager, and wait until it has a bus."""
    assert systemctl("start", MANAGER).returncode == 0
    eventually(lambda: os.path.exists(f"{RUNTIME}/bus"))


@pytest.mark.parametrize("has_keeper", [False, True], ids=["alone", "keeper"])
def test_what_ran_under_a_manager_that_was_killed_is_told_once_and_it_goes_on(
    faults: Faults, her: Her, session: str, has_keeper: bool
) -> None:
    owned = her.folder / "owned"
    owned.mkdir()
    os.chown(owned, UID, UID)
    members = [
        her.member(session, "server", "--own", str(owned)),
        her.member(session, "kept", "--lifetime", "detached"),
    ]
    names = {"server", "kept"}
    if has_keeper:
        begun = her.call("exec", "-d", "-s", session, "-n", "run", "--", "sh", "-c", "echo up; cat")
        assert begun.returncode == 0, begun.stderr
        eventually(lambda: her.call("logs", begun.stdout.strip()).stdout == "up\n")
        names.add("run")
    manager = main_pid(MANAGER)
    os.kill(manager, signal.SIGKILL)
    eventually(lambda: state(MANAGER) in ("inactive", "failed"))
    for each in members:  # systemd ends all that a manager has started
        assert each.wait(60) in (-signal.SIGKILL, -signal.SIGTERM)
    assert not is_alive(manager)
    for words in (("ls",), ("reconcile",), ("stop", "-s", session), ("history",), ("why", session)):
        one_line(her.call(*words))  # none of them needs her manager
    assert not owned.exists()
    refused = her.call("run", "-s", session, "-n", "refused", "--", "true")
    one_line(refused, (125,))
    assert f"{RUNTIME}/systemd/private" in refused.stderr
    ends = her.ends(session)
    assert ends == {name: ["unknown"] for name in names}
    start()
    assert her.call("run", "-s", session, "-n", "after", "--", "true").returncode == 0
    eventually(lambda: "after" in her.ends(session))
    assert {name: len(reasons) for name, reasons in her.ends(session).items()} == dict.fromkeys(
        (*names, "after"), 1
    )
    eventually(lambda: not [each for each in scope_directories() if f"user-{UID}" in each])
    assert faults.canaries.complaints() == []
    note("SIGKILL of a user's manager", f"{len(names)} members", "each has one end; launches go on")
