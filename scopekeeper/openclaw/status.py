"""Judges what is contained in a gateway, what is not, and why. Pure."""

import enum
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scopekeeper.install.gateway_drop_in import LEAVES_PROCESSES
from scopekeeper.mcp_configs.servers import ServerState
from scopekeeper.openclaw.bundles import BundleFile
from scopekeeper.openclaw.configuration import Found, PluginEntry, not_wrapped
from scopekeeper.openclaw.files_installed import FileState
from scopekeeper.openclaw.running import Gateway, Uncontained
from scopekeeper.scope.model import Scope
from scopekeeper.scope.selection import is_owner

NEWEST_TESTED = "2026.9.6"
"""Of OpenClaw, by ``make test-all``."""
_NOT_OURS = "edited, or written by somebody else; `openclaw install` names the file, and keeps it"

_OUTSIDE = "not contained"
_STDIO = (ServerState.WRAPPED, ServerState.NOT_WRAPPED)
_STARTS_WITHIN = 120.0
"""Seconds: a gateway that starts on a loaded machine takes more than a minute."""
_TICK = 0.01
"""Seconds: the precision of a process's start time."""


class Containment(enum.StrEnum):
    """Whether a part works: fully, with gaps, or not at all."""

    OK = "ok"
    LACKS = "lacks"
    OFF = "off"
    STARTING = "starting"
    """Not known yet."""
    NONE = "none"
    """There is nothing to contain."""


@dataclass(frozen=True, slots=True)
class GatewayFinding:
    """The judgement of one part, one line."""

    part: str
    verdict: Containment
    detail: str
    fix: str = ""
    """The command that mends it."""


@dataclass(frozen=True, slots=True)
class Remedies:
    """The commands that mend what is not contained in one gateway."""

    install: str
    rewrap: str
    """Wraps the servers that have appeared since."""
    restart: str
    log: str
    """Shows the gateway's messages."""
    by_hand: str
    """Starts a gateway without its unit."""
    config: str
    """The path of the configuration."""


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
    fix: str = ""
    """The command that mends what is not contained."""


BACKEND = "backend"
"""The state of a program that a gateway runs as its model; OpenClaw and the unit end it."""


def is_fine(findings: Sequence[GatewayFinding], sessions: Sequence[Session]) -> bool:
    """Return whether everything is contained."""
    fine = (Containment.OK, Containment.NONE)
    return all(each.verdict in fine for each in findings) and all(
        each.unit or each.state == BACKEND for each in sessions
    )


def of_servers(found: Found, remedies: Remedies) -> GatewayFinding:
    """Judge whether every server starts through ``scopekeeper run``."""
    stdio = [each for each in found.servers if each.state in _STDIO]
    bare = not_wrapped(found.servers)
    if bare:
        names = ", ".join(f"{each.name} ({each.detail or each.state})" for each in bare)
        unclear = [each for each in bare if each.state is ServerState.UNCLEAR]
        fix = f"edit {remedies.config}" if len(unclear) == len(bare) else remedies.install
        return GatewayFinding("servers", Containment.LACKS, f"not contained: {names}", fix)
    return GatewayFinding("servers", Containment.OK, f"{len(stdio)} of {len(stdio)} contained")


def of_bundles(found: Sequence[BundleFile], remedies: Remedies) -> Iterator[GatewayFinding]:
    """Judge the servers in the bundles of other plugins; yield nothing if there are none."""
    stdio = [each for file in found for each in file.servers if each.state in _STDIO]
    bare = [(file, not_wrapped(file.servers)) for file in found]
    names = [f"{each.name} ({file.path})" for file, servers in bare for each in servers]
    if names:
        text = f"not contained, of other plugins: {', '.join(names)}"
        yield GatewayFinding("bundles", Containment.LACKS, text, remedies.rewrap)
    elif stdio:
        text = f"{len(stdio)} of {len(stdio)} contained, of other plugins"
        yield GatewayFinding("bundles", Containment.OK, text)


def of_plugin(
    installed: FileState, found: Found, wanted: PluginEntry, remedies: Remedies
) -> GatewayFinding:
    """Judge whether the gateway will load the plugin of this version."""
    lost = "sessions share one name, and leftovers of a session stay until the gateway ends"
    again, name = remedies.install, "plugin"
    if installed is FileState.MISSING or found.entry is None:
        return GatewayFinding(name, Containment.OFF, f"not installed: {lost}", again)
    if found.blocked:
        detail = f"OpenClaw does not load it: {found.blocked}: {lost}"
        return GatewayFinding(name, Containment.OFF, detail, f"edit {remedies.config}")
    if installed is FileState.KEPT:
        return GatewayFinding(name, Containment.LACKS, _NOT_OURS, again)
    if installed is FileState.OLDER:
        return GatewayFinding(
            name, Containment.LACKS, "of another version; install it again", again
        )
    hooks = found.entry.get("hooks") if isinstance(found.entry, dict) else None
    allowed = isinstance(hooks, dict) and hooks.get("allowConversationAccess") is True
    if wanted.conversation_access and not allowed:
        detail = "this OpenClaw does not report the end of runs to it; install it again"
        return GatewayFinding(name, Containment.LACKS, detail, again)
    if allowed and not wanted.conversation_access:
        detail = "this OpenClaw may refuse its configuration; install it again"
        return GatewayFinding(name, Containment.LACKS, detail, again)
    return GatewayFinding(name, Containment.OK, "installed")


def of_drop_in(
    installed: FileState, unit: str, mode: str, remedies: Remedies, *, has_unit: bool
) -> GatewayFinding:
    """Judge whether the unit sets SHELL and cleans up after the gateway; mode is its KillMode=."""
    again, name = remedies.install, "unit"
    if not has_unit:
        return GatewayFinding(name, Containment.OK, f"there is no {unit}")
    if installed is FileState.MISSING:
        lost = "commands are not contained, and leftovers of the gateway stay"
        return GatewayFinding(name, Containment.OFF, f"{unit} has no drop-in: {lost}", again)
    if installed is FileState.KEPT:
        return GatewayFinding(name, Containment.LACKS, f"the drop-in of {unit}: {_NOT_OURS}", again)
    if installed is FileState.OLDER:
        detail = f"the drop-in of {unit} is of another version; install it again"
        return GatewayFinding(name, Containment.LACKS, detail, again)
    if mode in LEAVES_PROCESSES:
        stays = "what it starts outside of scopes stays when it stops"
        detail = f"{unit} has KillMode={mode}: {stays}; `openclaw install` says what ends it"
        return GatewayFinding(name, Containment.LACKS, detail, again)
    return GatewayFinding(name, Containment.OK, f"{unit} has the drop-in")


def of_no_gateway(unit: str, state: str | None) -> GatewayFinding:
    """Judge a gateway that does not run; state is that of its unit, None if there is no unit."""
    if state is None:
        return GatewayFinding("gateway", Containment.NONE, "no gateway runs")
    if state in ("activating", "active", "reloading"):
        return GatewayFinding("gateway", Containment.STARTING, f"{unit} is starting")
    detail = f"{unit} does not run" + (f": it is {state}" if state else "")
    return GatewayFinding("gateway", Containment.OFF, detail, f"systemctl --user start {unit}")


def of_gateway(
    gateway: Gateway,
    changed: float,
    remedies: Remedies,
    *,
    installed: bool,
    now: float | None = None,
) -> Iterator[GatewayFinding]:
    """Judge whether a running gateway uses the installed parts, which last changed at changed.

    now and changed are seconds since the epoch.
    """
    name = f"gateway {gateway.pid}"
    restart = remedies.restart if gateway.unit else f"stop it, and start it by: {remedies.by_hand}"
    if gateway.report is not None and not installed:
        detail = "it still runs the plugin; restart it"
        yield GatewayFinding(name, Containment.LACKS, detail, restart)
        return
    if gateway.started + _TICK < changed:
        detail = "started before the last change; restart it"
        yield GatewayFinding(name, Containment.LACKS, detail, restart)
        return
    if os.path.basename(gateway.shell) != "scopekeeper-shell":
        hint = "" if gateway.unit else "; start it with SHELL set to scopekeeper-shell"
        fix = remedies.install if gateway.unit else restart
        detail = f"its SHELL is {gateway.shell or 'not set'}{hint}"
        yield GatewayFinding(name, Containment.LACKS, detail, fix)
    if gateway.report is None:
        age = (time.time() if now is None else now) - gateway.started
        if installed and age < _STARTS_WITHIN:
            # the plugin reports once the gateway listens
            detail = f"started {age:.0f}s ago, and has not loaded its plugins yet; look again"
            yield GatewayFinding(name, Containment.STARTING, detail)
        else:
            detail = "it has not loaded the plugin; see its log"
            yield GatewayFinding(
                name, Containment.LACKS, detail, remedies.log if gateway.unit else ""
            )
    elif gateway.gives_identity is False:
        text = "this version of OpenClaw gives servers no session: they share one name"
        yield GatewayFinding(name, Containment.LACKS, text)
    else:
        version = str(gateway.report.get("openclaw") or "unknown")
        newer = f"; newer than {NEWEST_TESTED}, the newest that was tested"
        detail = f"OpenClaw {version}, with the plugin{newer if _is_untested(version) else ''}"
        yield GatewayFinding(name, Containment.OK, detail)


def _is_untested(version: str) -> bool:
    """Return whether a version is newer than those that scopekeeper was tested with."""
    numbers, tested = (re.findall(r"\d+", each)[:3] for each in (version, NEWEST_TESTED))
    return [int(each[:9]) for each in numbers] > [int(each) for each in tested]


def sessions(
    scopes: Sequence[Scope],
    gateways: Sequence[Gateway],
    bare: Mapping[tuple[str, ...], str],
    remedies: Remedies,
) -> list[Session]:
    """Return what runs for each agent and session: scopes first, then processes outside.

    bare has the names of servers that are not wrapped, by their whole command.
    """
    found = [_contained(scope) for scope in scopes if _is_of(scope, gateways)]
    found.sort(key=lambda each: (each.agent, each.session, each.lane))
    for gateway in gateways:
        found += [_outside(process, gateway, bare, remedies) for process in gateway.uncontained]
    return found


def _outside(
    process: Uncontained,
    gateway: Gateway,
    bare: Mapping[tuple[str, ...], str],
    remedies: Remedies,
) -> Session:
    detail = f"pid {process.pid}: {' '.join(process.command)}"
    name = bare.get(process.command)
    if name:
        detail = f"{detail} (server {name} is not wrapped)"
        return Session("-", "-", "-", "", _OUTSIDE, 0, 1, detail, remedies.install)
    if process.is_backend:
        return Session("-", "-", "-", "", BACKEND, 0, 1, f"{detail} (OpenClaw ends it)")
    fix = remedies.restart if gateway.unit else ""
    if process.client:
        fix = f"scopekeeper wrap --client {process.client}"
    return Session("-", "-", "-", "", _OUTSIDE, 0, 1, detail, fix)


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
