"""How to start again what runs, so that it reads its configuration anew."""

import os
from collections.abc import Iterable

from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel import proc
from scopekeeper.mcp_configs.running import running
from scopekeeper.systemd import calls
from scopekeeper.systemd.units import manager_uid, unit_at

_BY_HAND = "end it, and start it again"


def of_clients(clients: Iterable[str]) -> list[str]:
    """Return a line for each process of these clients that runs as this user."""
    return [
        line_of(title, pid) for title, pids in running(clients).items() for pid in pids
    ]  # fmt: skip


def line_of(title: str, pid: int) -> str:
    """Return what runs, and the command that starts it again."""
    unit, command = _service(pid)
    return f"{unit or title} (pid {pid}): {command or _BY_HAND}"


def start_again(pid: int) -> str:
    """Return the command that starts a process again."""
    return _service(pid)[1] or _BY_HAND


def restart(unit: str, kind: str) -> str:
    """Return the command that restarts a unit of a manager, ``user`` or ``system``."""
    if kind == "user":
        return f"systemctl --user restart {unit}"
    return f"{'sudo ' if os.geteuid() else ''}systemctl restart {unit}"


def _service(pid: int) -> tuple[str, str]:
    """Return the service whose main process it is, and the command that restarts it; else ''.

    Restarting the service of a terminal would end all that runs in the terminal.
    """
    try:
        path = proc.cgroup_of(pid)
        while path and not path.endswith(".service"):
            path = path.rpartition("/")[0]
        unit, uid = unit_at(path), manager_uid(path)
        if not unit or unit.startswith("user@") or uid not in ("", str(os.getuid())):
            return "", ""
        kind = "user" if uid else "system"
        is_main = calls.service_property(kind, unit, "MainPID") == str(pid)
    except (OSError, LookupError, ScopekeeperError):
        return "", ""
    return (unit, restart(unit, kind)) if is_main else ("", "")
