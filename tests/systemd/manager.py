"""The systemd manager that creates a test's scopes: the system's for root, else the user's.

A test reads the same for both.
"""

import os
import pwd
import subprocess
from pathlib import Path

from tests.machine import MOUNT, ROOT, eventually

_SCOPE = [] if ROOT else ["--user"]
_FOLDER = "" if ROOT else "/user.slice/user-{0}.slice/user@{0}.service".format(os.getuid())
SLICE = f"{MOUNT}{_FOLDER}/scopekeeper.slice"
"""The slice of our manager's scopes."""
MANAGER = MOUNT + _FOLDER
UNIT_FOLDER = Path("/run/systemd/system" if ROOT else f"/run/user/{os.getuid()}/systemd/user")


def systemctl_argv(*arguments: str) -> list[str]:
    """Return a command line of systemctl for our manager."""
    return ["systemctl", *_SCOPE, *arguments]


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl for our manager."""
    return subprocess.run(systemctl_argv(*arguments), capture_output=True, text=True, timeout=180)


def show(unit: str, name: str) -> str:
    """Return one property of a unit."""
    return systemctl("show", "--value", f"--property={name}", "--", unit).stdout.rstrip("\n")


def manager_version() -> int:
    """Return systemd's version number."""
    return int(systemctl("--version").stdout.split()[1])


def state(unit: str) -> str:
    """Return a unit's ActiveState; ``inactive`` if systemd does not know it."""
    return show(unit, "ActiveState")


def scope_units() -> dict[str, str]:
    """Return the loaded scopes that are named like ours, with their states."""
    listed = systemctl(
        "list-units", "--all", "--plain", "--no-legend", "--full", "scopekeeper-*.scope"
    ).stdout
    return {line.split()[0]: line.split()[2] for line in listed.splitlines()}


def systemd_run_argv(*options: str) -> list[str]:
    """Return the command line of a quiet systemd-run for our manager."""
    return ["systemd-run", *_SCOPE, "--quiet", *options]


class Units:
    """Services of one test; all are removed after it."""

    def __init__(self) -> None:
        # a folder for units would make a machine without systemd look as if it had one
        assert Path("/run/systemd/system").is_dir(), "needs systemd: run it in the lab"
        self._names: list[str] = []
        self._files: list[Path] = []

    def run(self, name: str, *options: str, command: tuple[str, ...]) -> None:
        """Start a transient service and wait until systemd calls it active."""
        self._names.append(name)
        path = f"--setenv=PATH={os.environ['PATH']}"
        done = subprocess.run(
            systemd_run_argv(f"--unit={name}", path, *options, "--", *command),
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr

    def write(self, name: str, text: str) -> None:
        """Install a unit file, or a drop-in ``UNIT.d/NAME``."""
        path = UNIT_FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self._files.append(path)
        if "@." not in name and "/" not in name:  # a template is no unit
            self._names.append(name)
        assert systemctl("daemon-reload").returncode == 0

    def adopt(self, name: str) -> None:
        """Also stop a unit at the end that was created otherwise."""
        self._names.append(name)

    def close(self) -> None:
        """Stop and forget all of them."""
        for path in self._files:
            path.unlink(missing_ok=True)
            if (
                path.parent != UNIT_FOLDER
                and path.parent.is_dir()
                and not any(path.parent.iterdir())
            ):
                path.parent.rmdir()
        for name in dict.fromkeys(self._names):
            # one by one: systemd 262 stops none of several if one is no longer loaded
            systemctl("kill", "--signal=SIGKILL", "--", name)
            systemctl("stop", "--", name)
            systemctl("reset-failed", "--", name)
        if self._files:
            systemctl("daemon-reload")
        for name in self._names:
            eventually(lambda name=name: state(name) in ("inactive", "failed"))


def uid_of(user: str) -> int:
    """Return a user's uid; -1 if there is no such user to test with."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return -1


def main_pid(unit: str) -> int:
    """Return the pid of a service's main process, 0 if there is none."""
    return int(show(unit, "MainPID") or 0)
