"""How to start again what runs, so that it reads its configuration anew."""

import contextlib
import os
from collections.abc import Iterable

from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel import proc
from scopekeeper.mcp_configs.running import running
from scopekeeper.setup import clients_now
from scopekeeper.setup.step import Facts
from scopekeeper.systemd import calls
from scopekeeper.systemd.units import manager_uid, unit_at

_BY_HAND = "end it, and start it again"


def since(facts: Facts) -> float:
    """Return when a change was made, in seconds since the epoch; 0 if that is not recorded."""
    with contextlib.suppress(LookupError, ValueError):
        return float(facts["since"][0])
    return 0.0


def of_clients(clients: Iterable[str], after: float = 0.0) -> list[str]:
    """Return what of these clients runs as this user, with the command that starts it again.

    Only what began after a time, in seconds since the epoch.
    """
    lines = []
    for title, pids in running(clients).items():
        by_hand = []
        for pid in (each for each in pids if clients_now.started(each) >= after):
            unit, kind = service_of(pid)
            if unit:
                lines.append(line_of(unit, kind, pid))
            else:
                by_hand.append(str(pid))
        if by_hand:
            lines.append(f"{title} (pid {', '.join(by_hand)}): {_BY_HAND}")
    return lines


def line_of(unit: str, kind: str, pid: "int | str") -> str:
    """Return a line for a service that runs."""
    return f"{unit} (pid {pid}): {restart(unit, kind)}"


def start_again(pid: int) -> str:
    """Return the command that starts a process again, or what to do by hand."""
    unit, kind = service_of(pid)
    return restart(unit, kind) if unit else _BY_HAND


def restart(unit: str, kind: str) -> str:
    """Return the command that restarts a unit of a manager, ``user`` or ``system``."""
    if kind == "user":
        return f"systemctl --user restart {unit}"
    return f"{'sudo ' if os.geteuid() else ''}systemctl restart {unit}"


def service_of(pid: int) -> tuple[str, str]:
    """Return the service whose main process it is, and its manager; '' and '' if there is none.

    What only runs in a service is not the service: the terminal around a client, for one.
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
    return (unit, kind) if is_main else ("", "")
