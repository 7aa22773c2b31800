"""Finds running gateways, and their processes outside every scope.

Only for display: nothing is ever ended because of what this finds.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from scopekeeper.errors import ManagerError
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import boottime, mount_point, start_time
from scopekeeper.kernel.usage import command_line
from scopekeeper.openclaw.locations import GatewayPaths, Package
from scopekeeper.scope import names
from scopekeeper.systemd import calls

_REPORT = "openclaw-"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Uncontained:
    """A process of the gateway outside every scope."""

    pid: int
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway process."""

    pid: int
    unit: str
    """'' if it was started by hand."""
    started: float
    """Seconds since the epoch."""
    shell: str
    """``SHELL`` in its environment."""
    report: dict[str, Any] | None = None
    """The report that its plugin wrote; None if it has not loaded the plugin."""
    uncontained: tuple[Uncontained, ...] = field(default=())

    @property
    def gives_identity(self) -> bool | None:
        """Whether servers get their session; None if unknown, as before the first server."""
        methods = (self.report or {}).get("identity")
        return None if methods is None else bool(methods)


def running(places: GatewayPaths, package: Package | None) -> list[Gateway]:
    """Return this user's gateways: that of the unit, and those whose plugin wrote a report."""
    found: dict[int, str] = {}
    with contextlib.suppress(ManagerError):
        pid = int(calls.service_property("user", places.unit, "MainPID"))
        if pid:
            found[pid] = places.unit
    reports = dict(_reports())
    for pid in reports:
        found.setdefault(pid, "")
    gateways = (_look(pid, unit, reports.get(pid), package) for pid, unit in found.items())
    return [each for each in gateways if each is not None]


def forget_ended() -> None:
    """Remove reports of killed gateways; a gateway that stops removes its own."""
    for path in _report_files():
        if _read(path) is None:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _reports() -> Iterator[tuple[int, dict[str, Any]]]:
    for path in _report_files():
        report = _read(path)
        if report is not None:
            yield int(report["pid"]), report


def _folder() -> str:
    """Return the folder of the plugins' reports; plugin/report.js has it too."""
    uid = os.getuid()
    return "/run/scopekeeper" if uid == 0 else f"/run/user/{uid}/scopekeeper"


def _report_files() -> list[str]:
    folder = _folder()
    try:
        names_there = sorted(os.listdir(folder))
    except OSError:
        return []
    return [
        f"{folder}/{name}"
        for name in names_there
        if name.startswith(_REPORT) and name.endswith(".json")
    ]


def _read(path: str) -> dict[str, Any] | None:
    """Return a plugin's report; None if its gateway has ended, even if its pid was reused."""
    try:
        with open(path, encoding="utf-8") as file:
            report: dict[str, Any] = json.load(file)
        words = " ".join(command_line(int(report["pid"])) or [])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if "openclaw" in words else None


def _started(pid: int) -> float:
    """Return when a process began, to a clock tick; psutil is only exact to a second."""
    ago = boottime() / 1e6 - int(start_time(pid)) / _TICKS
    return time.time() - ago


def _look(
    pid: int, unit: str, report: dict[str, Any] | None, package: Package | None
) -> Gateway | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            started, shell = _started(pid), process.environ().get("SHELL", "")
            executable = process.exe()
        others = {child.pid for child in process.children(recursive=True)}
    except (psutil.Error, OSError):
        return None
    if unit:
        others |= set(cgroupfs.own_processes(mount_point() + cgroupfs.path_of(pid)))
    uncontained = []
    for other in sorted(others - {pid}):
        words = command_line(other) or []
        # a zombie has no arguments; a helper of the gateway does no work for a session
        if words and not _in_scope(other) and not _is_helper(other, words, executable, package):
            uncontained.append(Uncontained(other, tuple(words)))
    return Gateway(pid, unit, started, shell, report, tuple(uncontained))


def _in_scope(pid: int) -> bool:
    return bool(names.unit_of(cgroupfs.path_of(pid)))


def _is_helper(pid: int, words: list[str], executable: str, package: Package | None) -> bool:
    """Return whether a process is OpenClaw's own: its interpreter runs a file of its package."""
    try:
        same = os.readlink(f"/proc/{pid}/exe") == executable
    except OSError:
        return False
    folder = f"{package.folder}/" if package else "/openclaw/"
    return same and any(folder in word or word.startswith("openclaw") for word in words)
