"""The keeper as the README installs it: its unit, with a state of the test's own."""

import json
import os
import re
import subprocess
from pathlib import Path

from tests.machine import PROGRAM, ROOT

from .manager import Units, main_pid

UNIT = "scopekeeper.service"
FILES = Path(__file__).parents[2] / "units"
DROP_IN = f"{UNIT}.d/10-system.conf"
"""Installed beside the unit for the system's manager."""


class Installed:
    """The keeper's unit, and where it keeps its state."""

    def __init__(self, units: Units) -> None:
        self._units = units

    def write(
        self, command: str = f"{PROGRAM} keeper", *, store: int = 0, **environment: str
    ) -> None:
        """Install the unit for this command; store is the size of its descriptor store."""
        passed = ("PATH", "SCOPEKEEPER_CONFIG", "SCOPEKEEPER_STATE")
        environment |= {name: os.environ[name] for name in passed}
        text = (FILES / UNIT).read_text()
        lines = "".join(f"Environment={name}={value}\n" for name, value in environment.items())
        text = text.replace("ExecStart=scopekeeper keeper\n", f"ExecStart={command}\n{lines}")
        if store:
            text = re.sub(
                "(?m)^FileDescriptorStoreMax=.*$", f"FileDescriptorStoreMax={store}", text
            )
        text = text.replace("[Service]\n", "StartLimitIntervalSec=0\n[Service]\n")
        if ROOT:
            self._units.write(DROP_IN, (FILES / "system" / DROP_IN).read_text())
        self._units.write(UNIT, text.replace("RestartSec=1\n", "RestartSec=50ms\n"))

    @property
    def pid(self) -> int:
        """The pid of the keeper, 0 if it does not run."""
        return main_pid(UNIT)

    def ends(self, session: str) -> list[tuple[object, object]]:
        """Return the ended members of a session with their reasons."""
        done = subprocess.run(
            [PROGRAM, "history", "-s", session, "--json"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return [(end["member"], end["reason"]) for end in json.loads(done.stdout)["ends"]]
