"""The package on a machine of the lab: put there by dpkg alone, used by root and by a user."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopekeeper.version import __version__

FOLDER = Path("/srv/deb")
"""Where the lab shows what `make deb` made."""
SYSTEM_PATH = "/usr/sbin:/usr/bin"  # not the lab's own virtual environment
HOMES = {"root": "/root", "lab": "/home/lab"}


class Who:
    """Somebody on the machine: calls things in units of their own manager, as a login would."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.systemctl = ["systemctl"] if user == "root" else ["systemctl", "--user"]
        self.busctl = ["busctl", *self.systemctl[1:]]

    def argv(self, *command: str) -> list[str]:
        """Return what runs a command in a transient unit of this user's manager."""
        common = [
            *(f"--setenv={name}={value}" for name, value in self._environment().items()),
            "--", *command,
        ]  # fmt: skip
        if self.user == "lab":
            return ["/usr/local/bin/as-user", *common]
        return ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", *common]

    def call(self, *command: str, status: int | None = 0) -> str:
        """Run a command, and return what it printed to both."""
        done = subprocess.run(
            self.argv(*command), env={"PATH": SYSTEM_PATH}, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
        )  # fmt: skip
        assert status is None or done.returncode == status, (command, done.returncode, done.stdout)
        return done.stdout

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a command that stays."""
        return subprocess.Popen(
            self.argv(*command), env={"PATH": SYSTEM_PATH}, stdin=subprocess.DEVNULL
        )

    def scopes(self, session: str = "deb") -> list[dict[str, object]]:
        """Return what ``ls`` tells of a session."""
        told = json.loads(self.call("scopekeeper", "ls", "-s", session, "--json"))
        scopes: list[dict[str, object]] = told["scopes"]
        return scopes

    def keeper(self) -> int:
        """Return the pid of this user's keeper, 0 while there is none."""
        shown = self.call(
            *self.systemctl, "show", "--value", "-p", "MainPID", "scopekeeper.service"
        )
        return int(shown)

    def _environment(self) -> dict[str, str]:
        return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "HOME": HOMES[self.user]}


@pytest.fixture(scope="session")
def manuals() -> Iterator[None]:
    """Have manuals and documentation unpacked, which the lab's machines leave out."""
    setting = Path("/etc/dpkg/dpkg.cfg.d/zz-manuals")
    setting.write_text("".join(f"path-include=/usr/share/{part}/*\n" for part in ("man", "doc")))
    yield
    setting.unlink()


def dpkg(*arguments: str) -> str:
    """Call dpkg as an administrator does."""
    environment = {**os.environ, "PATH": SYSTEM_PATH, "LANG": "C.UTF-8"}
    done = subprocess.run(
        ["dpkg", *arguments], env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def install() -> None:
    """Install the package, or upgrade it to itself."""
    dpkg("-i", str(next(FOLDER.glob(f"scopekeeper_{__version__}_*.deb"))))


def is_installed() -> bool:
    """Tell whether it is there and configured."""
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}", "scopekeeper"], capture_output=True,
        check=False,
    )  # fmt: skip
    return asked.stdout == b"installed"


@pytest.fixture
def package(manuals: None) -> None:
    """Have the package installed."""
    if not is_installed():
        install()


@pytest.fixture(params=["root", "lab"])
def who(request: pytest.FixtureRequest, package: None) -> Iterator[Who]:
    """Give a user of the package, and leave nothing of theirs running."""
    someone = Who(request.param)
    yield someone
    if is_installed():
        someone.call("scopekeeper", "stop", "-s", "deb", status=None)
