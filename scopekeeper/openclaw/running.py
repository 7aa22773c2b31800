"""Finds running gateways, and their processes outside every scope.

Only for display: nothing is ever ended because of what this finds.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from scopekeeper import regular_files
from scopekeeper.errors import ConfigError, ManagerError
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import boottime, environment, mount_point, start_time, stat_of
from scopekeeper.kernel.usage import command_line
from scopekeeper.mcp_configs.running import client_of
from scopekeeper.openclaw.locations import GatewayPaths, Package, find
from scopekeeper.scope import names
from scopekeeper.systemd import calls

_REPORT = "openclaw-"
_UNIT = re.compile(r"/(openclaw-gateway[^/]*\.service)(?=/|$)")
_MODELS = ("claude-code", "codex", "gemini")
"""Clients that OpenClaw can run as models."""
_DEEPEST = 64
"""Processes above one that are looked at."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Uncontained:
    """A process of the gateway outside every scope."""

    pid: int
    command: tuple[str, ...]
    is_backend: bool = False
    """Whether OpenClaw runs it as a model, as the backend claude-cli does."""
    client: str = ""
    """The MCP client that started it; '' if none did."""


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


def running(
    places: GatewayPaths, package: Package | None, backends: Collection[str] = ()
) -> list[Gateway]:
    """Return the gateways of this profile: that of the unit, and those whose plugin reported.

    backends has the names of programs that the configuration runs as models.
    """
    reports = {pid: report for pid, report in _reports() if _is_of(pid, report, places)}
    found = {pid: places.unit if _is_in(pid, places.unit) else "" for pid in reports}
    with contextlib.suppress(ManagerError, ValueError):
        main = int(calls.service_property("user", places.unit, "MainPID"))
        # the main process may only have started the gateway: OpenClaw respawns itself for options
        # of node, and the plugin is in the child
        if main and places.unit not in found.values():
            found[main] = places.unit
    gateways = (
        _look(pid, unit, reports.get(pid), package, backends) for pid, unit in found.items()
    )
    return [each for each in gateways if each is not None]


def unit_state(places: GatewayPaths) -> str:
    """Return the ActiveState of the gateway's unit; '' if the manager does not answer."""
    with contextlib.suppress(ManagerError):
        return calls.unit_property("user", places.unit, "ActiveState")
    return ""


def _is_in(pid: int, unit: str) -> bool:
    return f"/{unit}/" in f"{cgroupfs.path_of(pid)}/"


def _is_of(pid: int, report: dict[str, Any], places: GatewayPaths) -> bool:
    """Return whether a gateway is of this profile: by its unit, else by its state folder."""
    units = _UNIT.findall(cgroupfs.path_of(pid))
    if units:
        return bool(units[-1] == places.unit)
    environment = report.get("environment")
    if not isinstance(environment, dict):  # written by an older plugin
        environment = _environment_of(pid)
    try:
        found = find({str(key): str(value) for key, value in environment.items()})
    except ConfigError:
        return True  # unknown
    return os.path.realpath(found.plugin) == os.path.realpath(places.plugin)


def _environment_of(pid: int) -> dict[str, str]:
    try:
        entries = environment(pid).decode("utf-8", "surrogateescape").split("\0")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


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
        report: dict[str, Any] = json.loads(regular_files.read(path))
        words = " ".join(command_line(int(report["pid"])) or [])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if "openclaw" in words else None


def _started(pid: int) -> float:
    """Return when a process began, to a clock tick; psutil is only exact to a second."""
    ago = boottime() / 1e6 - int(start_time(pid)) / _TICKS
    return time.time() - ago


def _look(
    pid: int,
    unit: str,
    report: dict[str, Any] | None,
    package: Package | None,
    backends: Collection[str],
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
            backend = _backend(words, backends)
            above = "" if backend else _client_above(other, others)
            uncontained.append(Uncontained(other, tuple(words), bool(backend), above))
    return Gateway(pid, unit, started, shell, report, tuple(uncontained))


def _backend(words: list[str], backends: Collection[str]) -> str:
    """Return the model's program that a command line starts; '' if it is none. Pure."""
    client = client_of(words)
    if client in _MODELS:
        return client
    name = os.path.basename(words[0])
    return name if name in backends else ""


def _client_above(pid: int, others: Collection[int]) -> str:
    """Return the client among the processes above one; '' if there is none."""
    for _ in range(_DEEPEST):
        found = stat_of(pid)
        pid = found.parent if found else 0
        if pid not in others:
            return ""
        client = client_of(command_line(pid) or [])
        if client in _MODELS:
            return client
    return ""


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
