"""A keeper that runs as a service."""

import contextlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.machine import PROGRAM, eventually

from .manager import Units, main_pid

UNIT = "scopekeeper-keeper-test.service"


class Keeper:
    """A keeper that runs as a service, with rules and a state of its own."""

    def __init__(self, units: Units, folder: Path) -> None:
        self.home, self.state, self.rules = folder, folder / "state", folder / "rules"
        self.rules.mkdir()
        self._units = units

    def start(
        self,
        *options: str,
        environment: Mapping[str, str] = MappingProxyType({}),
        properties: Sequence[str] = (),
    ) -> None:
        """Start it, and wait until it is ready; properties are those of its service."""
        self._units.run(
            UNIT, "--property=Type=notify", "--property=NotifyAccess=main",
            "--property=Restart=on-failure", "--property=RestartSec=100ms",
            *(f"--property={each}" for each in properties),
            f"--setenv=SCOPEKEEPER_CONFIG={self.rules}",
            f"--setenv=SCOPEKEEPER_STATE={self.state}",
            *(f"--setenv={name}={value}" for name, value in environment.items()),
            command=(PROGRAM, "keeper", *(options or ("--linger", "infinity"))),
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The pid of its process."""
        return main_pid(UNIT)

    def policy(self, text: str) -> None:
        """Write its rules."""
        (self.rules / "config.toml").write_text(text)

    def history(self, session: str) -> list[dict[str, object]]:
        """Return the ends in a session, as ``scopekeeper history`` prints them."""
        done = subprocess.run(
            [PROGRAM, "history", "-s", session, "--json"], capture_output=True, text=True,
            env={**os.environ, "SCOPEKEEPER_STATE": str(self.state)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)["ends"]
        return found

    def living(self) -> list[str]:
        """Return the names of the members that it has written down as living."""
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{self.state}/history.db?mode=ro", uri=True)
            ) as connection:
                return [name for (name,) in connection.execute("SELECT name FROM living")]
        except sqlite3.OperationalError:
            return []  # it has yet to be made

    def ends(self, session: str) -> list[dict[str, object]]:
        """Wait until the history has ends of a session, and return them."""
        return eventually(lambda: self.history(session))
