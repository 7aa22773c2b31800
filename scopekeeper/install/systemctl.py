"""What a manager and its bus are asked and told, by the programs that an operator would use."""

import glob
import os
import shlex
import subprocess

from scopekeeper.errors import ConfigError, ManagerError, UnavailableError
from scopekeeper.install.locations import Locations

ENABLED = ("scopekeeper-reconcile.service", "scopekeeper-reconcile.timer")
"""The units that are there without being asked for."""
STARTED = "scopekeeper-reconcile.timer"
TEMPLATE = "scopekeeper@.service"
INSTANCES = "scopekeeper@*.service"
KEEPER = "scopekeeper.service"
_SECONDS = 90


class Systemctl:
    """One manager, through systemctl."""

    def __init__(self, places: Locations) -> None:
        """Connect; raises UnavailableError where it does not answer, ConfigError."""
        self._places = places
        if not os.path.isdir("/run/systemd/system"):
            raise UnavailableError("systemd does not run here", "there is nothing to install for")
        read_from = self._ask("show", "--property=UnitPath", "--value").split()
        if places.units not in read_from:
            raise ConfigError(
                f"the {places.manager} manager does not read {places.units}",
                "HOME is to be that of the user whose manager it is",
            )

    def argv(self, *words: str) -> list[str]:
        """Return the words of a call of systemctl."""
        return ["systemctl", *self._places.option, *words]

    def reload_bus(self) -> list[str]:
        """Return the words of the call that has the bus read its files again."""
        which = "--system" if self._places.manager == "system" else "--user"
        bus = "org.freedesktop.DBus"
        return ["busctl", which, "--quiet", "call", bus, "/", bus, "ReloadConfig"]

    def do(self, argv: list[str]) -> None:
        """Run a command; raises ManagerError with its own words."""
        done = self._run(argv)
        if done.returncode:
            raise ManagerError(f"`{shlex.join(argv)}` failed: {_line(done.stderr)}")

    def is_on(self) -> bool:
        """Tell whether what is to be enabled is, and the timer runs."""
        return self.enabled() == set(ENABLED) and self.runs(STARTED)

    def enabled(self) -> set[str]:
        """Return which of the units that are to be enabled are."""
        states = {unit: self._run(self.argv("is-enabled", unit)).stdout for unit in ENABLED}
        return {unit for unit, said in states.items() if said.strip() == "enabled"}

    def has(self, unit: str) -> bool:
        """Tell whether there is a unit, or a template; a masked one does not count."""
        if "@." in unit:
            listed = self._ask("list-unit-files", "--no-legend", "--full", "--", unit)
            return any(line.split()[0] == unit for line in listed.splitlines())
        return self.property(unit, "LoadState") == "loaded"

    def runs(self, unit: str) -> bool:
        """Tell whether a unit is neither inactive nor failed."""
        return self.property(unit, "ActiveState") not in ("inactive", "failed")

    def property(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self._ask("show", "--value", f"--property={name}", "--", unit).strip()

    def instances(self) -> list[str]:
        """Return the instances of the template that run, or start by themselves."""
        listed = self._ask("list-units", "--plain", "--no-legend", "--full", "--", INSTANCES)
        links = glob.glob(f"{glob.escape(self._places.units)}/*.*/{INSTANCES}")
        return sorted({line.split()[0] for line in listed.splitlines()}
                      | {os.path.basename(link) for link in links})  # fmt: skip

    def _ask(self, *words: str) -> str:
        done = self._run(self.argv(*words))
        if done.returncode:
            raise UnavailableError(
                f"the {self._places.manager} manager does not answer: {_line(done.stderr)}"
            )
        return done.stdout

    def _run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ) | {"SYSTEMD_PAGER": "", "LC_ALL": "C.UTF-8"}
        if self._places.manager == "user":
            # as a launch finds it: who came by su or sudo has no variables of a login
            runtime = f"/run/user/{os.getuid()}"
            environment["XDG_RUNTIME_DIR"] = runtime
            environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={runtime}/bus"
        try:
            return subprocess.run(
                argv, env=environment, capture_output=True, text=True, check=False,
                stdin=subprocess.DEVNULL, timeout=_SECONDS,
            )  # fmt: skip
        except FileNotFoundError:
            raise UnavailableError(f"{argv[0]} is not installed here") from None
        except subprocess.TimeoutExpired:
            raise ManagerError(f"`{shlex.join(argv)}` did not end in {_SECONDS} s") from None


def _line(text: str) -> str:
    return "; ".join(text.strip().splitlines()) or "it said nothing"
