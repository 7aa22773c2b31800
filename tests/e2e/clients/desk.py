"""A desk: a home, a project's folder and a model for one client, without or with scopekeeper."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import folders
from tests.machine import MOUNT, PROGRAM, SHELL, end_cgroup, eventually, scope_directories

from .client import PATH, Client, Place, Server
from .model import Model

STUB = Path(__file__).parents[1] / "stub_server.py"
SERVERS = ("stub", "stubborn")
UNIT = "e2e-client"
# what a login at a terminal has, too
KEPT = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


def server(name: str) -> Server:
    """Return one of the two servers; both have helpers, and one ignores what should end it."""
    variables = {"E2E_SERVER": name} | ({"E2E_STUBBORN": "1"} if name == "stubborn" else {})
    return Server(sys.executable, [str(STUB)], variables)


class Desk:
    """Where plays of one client happen. Its home is not the user's own."""

    def __init__(self, client: Client, model: Model, *, contained: bool) -> None:
        self.client, self.model, self.contained = client, model, contained
        self.as_member = False
        """whether the client itself is started by ``scopekeeper run``"""
        self._folder = Path(tempfile.mkdtemp(prefix="e2e-", dir=Path.home()))
        home, work = self._folder / "home", self._folder / "work"
        for folder in (home, work):
            folder.mkdir()
        servers = {name: server(name) for name in SERVERS}
        self.place = Place(home, work, model.origin, servers)
        client.configure(self.place)
        self._shells = home / "shells"
        if contained:
            self._contain()

    def variables(self) -> dict[str, str]:
        """Return the environment of a person who starts the client."""
        user = pwd.getpwuid(os.getuid()).pw_name
        usual = {
            "HOME": str(self.place.home),
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/bash",
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "PATH": PATH,
        }
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        shell = self.client.shell_variables(self._shells) if self.contained else {}
        return usual | kept | self.client.variables(self.place) | shell

    def argv(self, arguments: list[str], unit: str) -> list[str]:
        """Return the command line of the client in a scope of its own, as terminals start it."""
        scope = ["systemd-run", "--user", "--scope", "--quiet", "--collect", f"--unit={unit}"]
        variables = [f"{name}={value}" for name, value in self.variables().items()]
        setting = ["env", f"--chdir={self.place.work}", "-i", *variables]
        member = [PROGRAM, "run", "-n", self.client.name, "--"] if self.as_member else []
        return [*scope, "--", *setting, *member, *self.client.argv(), *arguments]

    def remove(self) -> None:
        """End what is in scopes, and take everything away."""
        for directory in [*scope_directories(), *_own_scopes()]:
            end_cgroup(directory)
        eventually(lambda: not scope_directories() and not _own_scopes())
        shutil.rmtree(self._folder, ignore_errors=True)

    def _contain(self) -> None:
        done = subprocess.run(
            [PROGRAM, "wrap", "--client", self.client.wrapped_as],
            cwd=self.place.work,
            env=os.environ | {"HOME": str(self.place.home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self._shells.mkdir()
        (self._shells / "bash").symlink_to(SHELL)


def _own_scopes() -> list[str]:
    """Return the cgroups that clients were started in and that still live."""
    return [each for each in folders.below(MOUNT) if Path(each).name.startswith(f"{UNIT}-")]
