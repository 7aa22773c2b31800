"""Upgrades and downgrades of the package while runs live: nobody is ended, nothing is forgotten."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopekeeper.version import __version__
from tests.machine import eventually
from tests.proof.canaries import Canaries

from . import conftest, versions
from .conftest import FOLDER, Who
from .versions import OLDER, variant

pytestmark = pytest.mark.deb

SESSION = "versions"
"""One of its own: what other tests launched may get its end late."""
SCRIPT = "while read -r word; do echo heard $word; done"


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Canaries]:
    """Have processes beside that nothing may signal."""
    made = Canaries(tmp_path / "canaries")
    yield made
    assert made.complaints() == []
    made.close()


@pytest.fixture
def packages(tmp_path: Path, package: None) -> Iterator[dict[str, Path]]:
    """Provide the package by version; afterwards the true one is installed."""
    made = {version: variant(tmp_path, version) for version in (OLDER,)}
    (made[__version__],) = FOLDER.glob(f"scopekeeper_{__version__}_*.deb")
    yield made
    for who in (Who("root"), Who("lab")):
        who.call("scopekeeper", "stop", "-s", SESSION, status=None)
    if Who("root").call("scopekeeper", "--version").split()[-1] != __version__:
        conftest.dpkg("-P", "scopekeeper")
    conftest.install()


class Lives:
    """What one user has running: a server that owns a folder, and a run with a terminal."""

    def __init__(self, who: Who, folder: Path) -> None:
        self.who = who
        self.owner = subprocess.Popen(["sleep", "infinity"])
        self.owned = folder / who.user / "owned"
        self.owned.mkdir(parents=True)
        subprocess.run(["chown", "-R", who.user, self.owned.parent], check=True)
        self.server = self.start("server", "--own", str(self.owned))
        told = who.call(
            "scopekeeper", "exec", "-d", "-s", SESSION, "-n", "run", "--", "sh", "-c", SCRIPT
        )
        self.run = told.split()[-1]
        self.keeper = eventually(who.keeper)

    def start(self, name: str, *options: str) -> "subprocess.Popen[bytes]":
        owner = ("--owner", str(self.owner.pid))
        words = ("scopekeeper", "run", "-s", SESSION, "-n", name, *owner, *options)
        process = self.who.start(*words, "--", "sleep", "infinity")
        eventually(lambda: self.pid(name))
        return process

    def pid(self, name: str) -> int:
        """Return the process of a member, 0 if it has none."""
        members = [each for scope in self.who.scopes(SESSION) for each in scope["members"]]
        pids = [
            each["pid"] for each in members if each["name"] == name and each["state"] != "ended"
        ]
        return int(pids[0]) if pids else 0

    def go_on(self, word: str) -> None:
        """Assert that the server lives, and that another keeper holds the same terminal."""
        assert self.server.poll() is None
        eventually(lambda: self.who.keeper() not in {0, self.keeper})
        self.keeper = self.who.keeper()
        self.who.call("scopekeeper", "send", self.run, word, "--enter")
        eventually(lambda: f"heard {word}" in self.who.call("scopekeeper", "logs", self.run))

    def ends(self) -> list[tuple[str, str]]:
        """Return what the history has."""
        told = json.loads(self.who.call("scopekeeper", "history", "-s", SESSION, "--json"))
        return sorted((each["member"], each["reason"]) for each in told["ends"])

    def close(self) -> None:
        self.owner.kill()
        self.owner.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Provide a folder that every user can reach."""
    made = Path(tempfile.mkdtemp(dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def users(packages: dict[str, Path], canaries: Canaries) -> tuple[Who, Who]:
    """Provide root and a user, beside the canaries; neither has a history yet."""
    assert packages
    assert canaries
    users = (Who("root"), Who("lab"))
    for who in users:
        who.call(*who.systemctl, "stop", "scopekeeper.service", status=None)
    for state in ("/var/lib/scopekeeper", "/home/lab/.local/state/scopekeeper"):
        subprocess.run(["rm", "-rf", state], check=True)
    return users


def test_what_runs_goes_on_through_an_upgrade_and_a_downgrade(
    users: tuple[Who, Who], packages: dict[str, Path], folder: Path
) -> None:
    versions.install(packages[OLDER])
    everybody = [Lives(who, folder) for who in users]
    try:
        for number, version in enumerate((__version__, OLDER, __version__)):
            versions.install(packages[version])
            for each in everybody:
                assert each.who.call("scopekeeper", "--version").split()[-1] == version
                each.go_on(f"word{number}")
                assert each.ends() == []
        for each in everybody:
            each.owner.kill()
            each.owner.wait()
            each.server.wait(60)
            eventually(lambda each=each: not each.owned.exists())
            each.who.call("scopekeeper", "stop", "-s", SESSION)
            eventually(lambda each=each: len(each.ends()) == 2)
            assert each.ends() == [("run", "stopped by request"), ("server", "owner gone")]
    finally:
        for each in everybody:
            each.close()
