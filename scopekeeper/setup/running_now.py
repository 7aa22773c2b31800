"""What runs in scopes now, by the client or gateway that owns it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.clients import known
from scopekeeper.clients.known import Client
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.kernel.usage import command_line
from scopekeeper.mcp_configs.known_clients import built_in
from scopekeeper.mcp_configs.running import client_started_by
from scopekeeper.scope.model import Liveness, Owner, Scope
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd.units import manager_uid

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
    reader = Reader(mount_point(), usage=True)
    for scope in reader.snapshot(uid=os.getuid()).scopes:
        if scope.lives:
            whole.add(scope)
            loads.setdefault(_owner(scope, units, reader.mount), Load()).add(scope)
    return whole, loads


def of_services(manager: str) -> dict[str, bool]:
    """Return the services of a manager, ``user`` or ``system``, that own what lives in scopes.

    Each with whether all of it lies in the service's own cgroup, and so ends with it. Not what was
    started to outlive its service.
    """
    uid = str(os.getuid()) if manager == "user" else ""
    found: dict[str, bool] = {}
    for scope in Reader(mount_point()).snapshot(uid=os.getuid()).scopes:
        for member in scope.living_members:
            state = member.owner_state
            if state is None or state.liveness is not Liveness.ALIVE:
                continue
            unit, cgroup = state.owner.unit, state.owner.cgroup
            if unit and member.lifetime == "gateway" and manager_uid(cgroup) == uid:
                is_inside = member.cgroup.startswith(f"{cgroup}/")
                found[unit] = found.get(unit, True) and is_inside
    return found


def _owner(scope: Scope, units: Sequence[str], mount: str) -> str:
    """Return the name of what owns the first member."""
    state = next((m.owner_state for m in scope.living_members if m.owner_state), None)
    owner = state.owner if state is not None else scope.owner
    unit = owner.unit or owner.outer_unit
    if unit.startswith(_OPENCLAW):
        return built_in()["openclaw"].title
    if unit in units:
        return unit
    clients = known.read([])
    pids: list[int] = []
    if state is not None and state.liveness is Liveness.ALIVE:
        pids = _processes(owner, mount)
    started = (client_started_by(command_line(pid) or [], clients) for pid in pids)
    client = next(filter(None, started), None) or _client_of_session(scope, clients)
    client = client or client_started_by([owner.name], clients)
    return client.title if client else OTHERS


def _processes(owner: Owner, mount: str) -> list[int]:
    """Return the process that an owner is, or those of the service that it is."""
    if owner.unit:
        return sorted(cgroupfs.processes(mount + owner.cgroup))
    return [owner.pid] if owner.pid else []


def _client_of_session(scope: Scope, clients: Sequence[Client]) -> Client | None:
    """Return the client whose id names the session of a scope, or labels it."""
    prefix, colon, _ = scope.shown_session.partition(":")
    return next((each for each in clients if colon and each.prefix == prefix), None)
