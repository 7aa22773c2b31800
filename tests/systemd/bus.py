"""Calls the keeper on its bus."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.machine import ROOT

from .manager import systemctl

BUS = ("org.scopekeeper.Keeper1", "/org/scopekeeper/Keeper1", "org.scopekeeper.Keeper1")


def busctl(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run busctl on the keeper's bus."""
    scope = ["--system"] if ROOT else ["--user"]
    return subprocess.run(
        ["busctl", *scope, *arguments], capture_output=True, text=True, timeout=timeout
    )


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Allow a keeper on the bus; the system bus needs a policy for it."""
    conf = Path("/etc/dbus-1/system.d/org.scopekeeper.Keeper1.conf")
    if ROOT:
        units_folder = Path(__file__).parents[2] / "units"
        conf.write_text((units_folder / conf.name).read_text())
        systemctl("reload", "dbus.service")
    yield
    if ROOT:
        conf.unlink()
        systemctl("reload", "dbus.service")
