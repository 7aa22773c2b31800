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
"""What the system's manager has beside the unit."""


class Installed:
    """The keeper's unit, and where it keeps its state."""

    def __init__(self, units: Units) -> None:
        self._units = units

    def write(
        self, command: str = f"{PROGRAM} keeper", *, store: int = 0, **environment: str
    ) -> None:
        """Install the unit, for this command, with a descriptor store for so many if said."""
        passed = ("PATH", "SCOPEKEEPER_CONFIG", "SCOPEKEEPER_STATE")
        environment |= {name: os.environ[name] for name in passed}
        text = (FILES / UNIT).read_text()
        said = "".join(f"Environment={name}={value}\n" for name, value in environment.items())
        text = text.replace("ExecStart=scopekeeper keeper\n", f"ExecStart={command}\n{said}")
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
        """The pid of the keeper, 0 while there is none."""
        return main_pid(UNIT)

    def ends(self, session: str) -> list[tuple[object, object]]:
        """Return the members of a session that ended, and the reasons."""
        done = subprocess.run(
            [PROGRAM, "history", "-s", session, "--json"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return [(end["member"], end["reason"]) for end in json.loads(done.stdout)["ends"]]
