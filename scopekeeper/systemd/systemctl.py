"""Changes a manager with the commands that ``install`` shows; asks it through ``calls``."""

import glob
import os
import shlex
import subprocess

from scopekeeper.errors import ConfigError, ManagerError, UnavailableError
from scopekeeper.systemd import calls
from scopekeeper.systemd.units import SYSTEM_BUS

_SECONDS = 90


class Systemctl:
    """One manager; units is the folder in which its units are installed."""

    def __init__(self, kind: str, units: str) -> None:
        """Connect; raises UnavailableError if the manager does not answer, ConfigError."""
        self.kind = kind
        self._units = units
        if not os.path.isdir("/run/systemd/system"):
            raise UnavailableError("systemd does not run here", "there is nothing to install for")
        try:
            folders = calls.unit_folders(kind)
        except ManagerError as error:
            raise UnavailableError(error.message) from None
        if units not in folders:
            raise ConfigError(
                f"the {kind} manager does not read {units}",
                "HOME is to be that of the user whose manager it is",
            )

    def argv(self, *words: str) -> list[str]:
        """Return a systemctl command."""
        return ["systemctl", *(("--user",) if self.kind == "user" else ()), *words]

    def reload_bus(self) -> list[str]:
        """Return the command that makes the bus read its files again."""
        bus = "org.freedesktop.DBus"
        return ["busctl", f"--{self.kind}", "--quiet", "call", bus, "/", bus, "ReloadConfig"]

    def do(self, argv: list[str]) -> None:
        """Run a command; raises ManagerError with what it printed."""
        environment = dict(os.environ) | {"SYSTEMD_PAGER": "", "LC_ALL": "C.UTF-8"}
        environment["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={SYSTEM_BUS}"
        if self.kind == "user":
            # su and sudo leave no variables of a login: derive the addresses as a launch does
            runtime = f"/run/user/{os.getuid()}"
            environment["XDG_RUNTIME_DIR"] = runtime
            environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={runtime}/bus"
        try:
            done = subprocess.run(
                argv, env=environment, capture_output=True, text=True, check=False,
                stdin=subprocess.DEVNULL, timeout=_SECONDS,
            )  # fmt: skip
        except FileNotFoundError:
            raise UnavailableError(f"{argv[0]} is not installed here") from None
        except subprocess.TimeoutExpired:
            raise ManagerError(f"`{shlex.join(argv)}` did not end in {_SECONDS} s") from None
        if done.returncode:
            words = "; ".join(done.stderr.strip().splitlines()) or "it said nothing"
            raise ManagerError(f"`{shlex.join(argv)}` failed: {words}")

    def enabled(self, *units: str) -> set[str]:
        """Return which of these units are enabled."""
        return {unit for unit in units if calls.unit_files(self.kind, unit).get(unit) == "enabled"}

    def has(self, unit: str) -> bool:
        """Return whether a unit or a template exists; a masked unit does not count."""
        if "@." in unit:
            return unit in calls.unit_files(self.kind, unit)
        return self.property(unit, "LoadState") == "loaded"

    def runs(self, unit: str) -> bool:
        """Return whether a unit is neither inactive nor failed."""
        return self.property(unit, "ActiveState") not in ("inactive", "failed")

    def property(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return calls.unit_property(self.kind, unit, name)

    def property_of_service(self, unit: str, name: str) -> str:
        """Return a property of a service; '' of a template."""
        return "" if "@." in unit else calls.service_property(self.kind, unit, name)

    def exec_start(self, unit: str) -> tuple[tuple[str, ...], ...]:
        """Return the commands of a service, each with the path of its program first."""
        return calls.exec_start(self.kind, unit)

    def instances(self, template: str) -> list[str]:
        """Return the instances of a template that run, failed, or start by themselves."""
        pattern = template.replace("@", "@*", 1)
        links = glob.glob(f"{glob.escape(self._units)}/*.*/{pattern}")
        loaded = calls.listed_units(self.kind, pattern)
        running = {unit for unit, state in loaded.items() if state != "inactive"}
        return sorted(running | {os.path.basename(link) for link in links})
