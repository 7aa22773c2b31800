"""Judges what is contained in a gateway, what is not, and why. Pure."""

import enum
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scopekeeper.install.gateway_drop_in import LEAVES_PROCESSES
from scopekeeper.openclaw.configuration import Found, PluginEntry, not_wrapped
from scopekeeper.openclaw.files_installed import FileState
from scopekeeper.openclaw.running import Gateway
from scopekeeper.scope.model import Scope
from scopekeeper.scope.selection import is_owner

_NOT_OURS = "edited, or written by somebody else; `openclaw install` names the file, and keeps it"

_TICK = 0.01
"""Seconds: the precision of a process's start time."""


class Containment(enum.StrEnum):
    """Whether a part works: fully, with gaps, or not at all."""

    OK = "ok"
    LACKS = "lacks"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class GatewayFinding:
    """The judgement of one part, one line."""

    part: str
    verdict: Containment
    detail: str


@dataclass(frozen=True, slots=True)
class Session:
    """The running members of one session of one agent."""

    agent: str
    session: str
    lane: str
    unit: str
    """The scope unit; '' for a process outside every scope."""
    state: str
    members: int
    processes: int
    detail: str


def of_servers(found: Found) -> GatewayFinding:
    """Judge whether every server starts through ``scopekeeper run``."""
    stdio = [each for each in found.servers if each.state.value in ("wrapped", "not wrapped")]
    bare = not_wrapped(found.servers)
    if bare:
        names = ", ".join(f"{each.name} ({each.detail or each.state})" for each in bare)
        return GatewayFinding("servers", Containment.LACKS, f"not contained: {names}")
    return GatewayFinding("servers", Containment.OK, f"{len(stdio)} of {len(stdio)} contained")


def of_plugin(installed: FileState, found: Found, wanted: PluginEntry) -> GatewayFinding:
    """Judge whether the gateway will load the plugin of this version."""
    lost = "sessions share one name, and leftovers of a session stay until the gateway ends"
    if installed is FileState.MISSING or found.entry is None:
        return GatewayFinding("plugin", Containment.OFF, f"not installed: {lost}")
    if found.blocked:
        return GatewayFinding(
            "plugin", Containment.OFF, f"OpenClaw does not load it: {found.blocked}: {lost}"
        )
    if installed is FileState.KEPT:
        return GatewayFinding("plugin", Containment.LACKS, _NOT_OURS)
    if installed is FileState.OLDER:
        return GatewayFinding("plugin", Containment.LACKS, "of another version; install it again")
    hooks = found.entry.get("hooks") if isinstance(found.entry, dict) else None
    allowed = isinstance(hooks, dict) and hooks.get("allowConversationAccess") is True
    if wanted.conversation_access and not allowed:
        detail = "this OpenClaw does not report the end of runs to it; install it again"
        return GatewayFinding("plugin", Containment.LACKS, detail)
    if allowed and not wanted.conversation_access:
        detail = "this OpenClaw may refuse its configuration; install it again"
        return GatewayFinding("plugin", Containment.LACKS, detail)
    return GatewayFinding("plugin", Containment.OK, "installed")


def of_drop_in(installed: FileState, unit: str, mode: str, *, has_unit: bool) -> GatewayFinding:
    """Judge whether the unit sets SHELL and cleans up after the gateway; mode is its KillMode=."""
    if not has_unit:
        return GatewayFinding("unit", Containment.OK, f"there is no {unit}")
    if installed is FileState.MISSING:
        lost = "commands are not contained, and leftovers of the gateway stay"
        return GatewayFinding("unit", Containment.OFF, f"{unit} has no drop-in: {lost}")
    if installed is FileState.KEPT:
        return GatewayFinding("unit", Containment.LACKS, f"the drop-in of {unit}: {_NOT_OURS}")
    if installed is FileState.OLDER:
        detail = f"the drop-in of {unit} is of another version; install it again"
        return GatewayFinding("unit", Containment.LACKS, detail)
    if mode in LEAVES_PROCESSES:
        stays = "what it starts outside of scopes stays when it stops"
        detail = f"{unit} has KillMode={mode}: {stays}; `openclaw install` says what ends it"
        return GatewayFinding("unit", Containment.LACKS, detail)
    return GatewayFinding("unit", Containment.OK, f"{unit} has the drop-in")


def of_gateway(gateway: Gateway, changed: float, *, installed: bool) -> Iterator[GatewayFinding]:
    """Judge whether a running gateway uses the installed parts, which last changed at changed."""
    name = f"gateway {gateway.pid}"
    if gateway.report is not None and not installed:
        yield GatewayFinding(name, Containment.LACKS, "it still runs the plugin; restart it")
        return
    if gateway.started + _TICK < changed:
        yield GatewayFinding(name, Containment.LACKS, "started before the last change; restart it")
        return
    if os.path.basename(gateway.shell) != "scopekeeper-shell":
        hint = "" if gateway.unit else "; start it with SHELL set to scopekeeper-shell"
        yield GatewayFinding(
            name, Containment.LACKS, f"its SHELL is {gateway.shell or 'not set'}{hint}"
        )
    if gateway.report is None:
        yield GatewayFinding(name, Containment.LACKS, "it has not loaded the plugin; see its log")
    elif gateway.gives_identity is False:
        text = "this version of OpenClaw gives servers no session: they share one name"
        yield GatewayFinding(name, Containment.LACKS, text)
    else:
        version = gateway.report.get("openclaw") or "unknown"
        yield GatewayFinding(name, Containment.OK, f"OpenClaw {version}, with the plugin")


def sessions(
    scopes: Sequence[Scope], gateways: Sequence[Gateway], bare: Mapping[tuple[str, ...], str]
) -> list[Session]:
    """Return what runs for each agent and session: scopes first, then processes outside.

    bare has the names of servers that are not wrapped, by their whole command.
    """
    found = [_contained(scope) for scope in scopes if _is_of(scope, gateways)]
    found.sort(key=lambda each: (each.agent, each.session, each.lane))
    for gateway in gateways:
        for process in gateway.uncontained:
            name = bare.get(process.command)
            what = f"pid {process.pid}: {' '.join(process.command)}"
            detail = f"{what} (server {name} is not wrapped)" if name else what
            found.append(Session("-", "-", "-", "", "not contained", 0, 1, detail))
    return found


def _is_of(scope: Scope, gateways: Sequence[Gateway]) -> bool:
    owners = {member.owner_state.owner for member in scope.living_members if member.owner_state}
    return any(
        is_owner(owner, gateway.unit or str(gateway.pid))
        for owner in owners
        for gateway in gateways
    )


def _contained(scope: Scope) -> Session:
    parts = scope.session.split(":", 2)
    agent = parts[1] if len(parts) == 3 and parts[0] == "agent" else "-"
    names = ", ".join(sorted({member.name for member in scope.living_members}))
    return Session(agent, scope.session, scope.lane, scope.unit, scope.state,
                   len(scope.living_members), len(scope.pids), names)  # fmt: skip
