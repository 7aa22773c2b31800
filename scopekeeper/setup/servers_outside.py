"""Finds services in which MCP servers run that are in no scope, whatever started them.

An MCP server here is a process whose command names MCP, and to which its parent talks through its
stdin and stdout. Only for display: nothing is ended because of what this finds.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from scopekeeper.kernel import proc
from scopekeeper.kernel.usage import command_line
from scopekeeper.mcp_configs.running import client_of
from scopekeeper.setup.clients_now import is_contained
from scopekeeper.systemd.units import manager_uid

_NAMED = re.compile(r"(?i)(?<![a-z])mcp(?![a-z])|modelcontextprotocol")
NO_GATEWAYS = ("user@", "app-", "cron", "atd", "ssh", "openclaw-gateway", "scopekeeper")
"""Services that are no gateways: managers, programs of the desktop such as a terminal, logins and
jobs; OpenClaw's, which has a step of its own; ours."""
_TALKS = ("pipe:", "socket:")


@dataclass(frozen=True, slots=True)
class Outside:
    """A service with MCP servers in no scope."""

    unit: str
    kind: str
    """The manager: ``user`` or ``system``."""
    servers: int


def servers_outside() -> Iterator[Outside]:
    """Yield each service of this user's, for root each of the system's manager."""
    found: dict[tuple[str, str], set[int]] = {}
    for pid in proc.pids():
        if where := _service_of(pid):
            found.setdefault(where, set()).add(pid)
    for (unit, kind), pids in sorted(found.items()):
        # npx and what it starts are one server
        topmost = [pid for pid in pids if _parent(pid) not in pids]
        yield Outside(unit, kind, len(topmost))


def _service_of(pid: int) -> tuple[str, str] | None:
    """Return the service of an MCP server in no scope, with its manager; None of other processes.

    What its parent has left behind is no server any more. Those of a known client are judged by its
    files.
    """
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
        if os.getuid() not in (0, uid) or not is_server(command_line(pid) or []):
            return None
        path = proc.cgroup_of(pid)
        ends = [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1)]
    except (OSError, LookupError):
        return None
    unit = next((part for part in reversed(path.split("/")) if part.endswith(".service")), "")
    of = manager_uid(path)
    if not unit or unit.startswith(NO_GATEWAYS) or of not in ("", str(os.getuid())):
        return None
    if not all(end.startswith(_TALKS) for end in ends) or is_contained(pid):
        return None
    parent = _parent(pid)
    try:
        is_left = not proc.cgroup_of(parent).startswith(path.partition(unit)[0] + unit)
    except (OSError, LookupError):
        return None
    if is_left or client_of(command_line(parent) or []):
        return None
    return unit, "user" if of else "system"


def is_server(words: list[str]) -> bool:
    """Return whether a command line names MCP in its program, script or package. Pure."""
    return any(_NAMED.search(os.path.basename(word) if word.startswith("/") else word)
               for word in words[:4] if not word.startswith("--"))  # fmt: skip


def _parent(pid: int) -> int:
    try:
        stat = proc.stat_of(pid)
    except OSError:
        return 0
    return stat.parent if stat else 0
