"""What runs in scopes now, by the client or gateway that owns it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.clients import known
from scopekeeper.kernel.proc import mount_point
from scopekeeper.kernel.usage import command_line
from scopekeeper.mcp_configs.known_clients import built_in
from scopekeeper.mcp_configs.running import client_started_by
from scopekeeper.scope.model import Scope
from scopekeeper.scope.snapshot import Reader

_OPENCLAW = "openclaw-gateway"
OTHERS = "others"
"""Owners that are no client and no gateway known here."""
_LOST = ("orphan", "abandoned")


@dataclass(slots=True)
class Load:
    """Scopes, and what they use."""

    scopes: int = 0
    processes: int = 0
    memory_bytes: int | None = None
    """None if no controller counts it."""
    lost: int = 0
    """Scopes that nobody owns any more."""

    def add(self, scope: Scope) -> None:
        """Count one more."""
        self.scopes += 1
        self.processes += len(scope.pids)
        if scope.memory_bytes is not None:
            self.memory_bytes = (self.memory_bytes or 0) + scope.memory_bytes
        self.lost += scope.state in _LOST


def by_owner(units: Sequence[str]) -> tuple[Load, dict[str, Load]]:
    """Return all that runs of this user, and the same by client's title, or unit of a gateway."""
    whole = Load()
    loads: dict[str, Load] = {}
    for scope in Reader(mount_point(), usage=True).snapshot(uid=os.getuid()).scopes:
        if scope.lives:
            whole.add(scope)
            loads.setdefault(_owner(scope, units), Load()).add(scope)
    return whole, loads


def _owner(scope: Scope, units: Sequence[str]) -> str:
    """Return the name of what owns the first member."""
    owner = next((m.owner_state.owner for m in scope.living_members if m.owner_state), scope.owner)
    unit = owner.unit or owner.outer_unit
    if unit.startswith(_OPENCLAW):
        return built_in()["openclaw"].title
    if unit in units:
        return unit
    words = (command_line(owner.pid) or []) if owner.pid else []
    client = client_started_by(words, known.read([]))
    return client.title if client else OTHERS
