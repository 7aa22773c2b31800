"""What of a gateway is contained, what is not, and why. Pure but for what it is handed."""

import enum
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scopekeeper.openclaw.configuration import Entry, Seen, not_wrapped
from scopekeeper.openclaw.files_installed import State
from scopekeeper.openclaw.running import Gateway
from scopekeeper.scope.model import Scope
from scopekeeper.scope.selection import is_owner

_NOT_OURS = "edited, or written by somebody else; `install` says which file, and leaves it alone"


_TICK = 0.01
"""Seconds: how exactly it is known when a process began."""


class Verdict(enum.StrEnum):
    """Whether a part does what it is for."""

    OK = "ok"
    LACKS = "lacks"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line on one part."""

    part: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class Session:
    """What one session of one agent has running."""

    agent: str
    session: str
    lane: str
    unit: str
    """Of the scope; '' where it is in none."""
    state: str
    members: int
    processes: int
    detail: str


def of_servers(seen: Seen) -> Finding:
    """Say whether every server goes through ``run``."""
    stdio = [each for each in seen.servers if each.state.value in ("wrapped", "not wrapped")]
    bare = not_wrapped(seen.servers)
    if bare:
        names = ", ".join(f"{each.name} ({each.detail or each.state})" for each in bare)
        return Finding("servers", Verdict.LACKS, f"not contained: {names}")
    return Finding("servers", Verdict.OK, f"{len(stdio)} of {len(stdio)} contained")


def of_plugin(installed: State, seen: Seen, wanted: Entry) -> Finding:
    """Say whether the gateway will load the plugin that belongs to this version."""
    lost = "sessions share one name, and what a run leaves stays until the gateway ends"
    if installed is State.MISSING or seen.entry is None:
        return Finding("plugin", Verdict.OFF, f"not installed: {lost}")
    if seen.blocked:
        return Finding("plugin", Verdict.OFF, f"OpenClaw does not load it: {seen.blocked}: {lost}")
    if installed is State.KEPT:
        return Finding("plugin", Verdict.LACKS, _NOT_OURS)
    if installed is State.OLDER:
        return Finding("plugin", Verdict.LACKS, "of another version; install again")
    hooks = seen.entry.get("hooks") if isinstance(seen.entry, dict) else None
    allowed = isinstance(hooks, dict) and hooks.get("allowConversationAccess") is True
    if wanted.conversation_access and not allowed:
        detail = "this OpenClaw does not tell it of the end of runs; install again"
        return Finding("plugin", Verdict.LACKS, detail)
    if allowed and not wanted.conversation_access:
        detail = "this OpenClaw may refuse its configuration; install again"
        return Finding("plugin", Verdict.LACKS, detail)
    return Finding("plugin", Verdict.OK, "installed")


def of_drop_in(installed: State, unit: str, *, has_unit: bool) -> Finding:
    """Say whether the unit has our shell, and ends what it leaves."""
    if not has_unit:
        return Finding("unit", Verdict.OK, f"there is no {unit}")
    if installed is State.MISSING:
        lost = "commands are not contained, and what outlives the gateway stays"
        return Finding("unit", Verdict.OFF, f"{unit} has no drop-in of ours: {lost}")
    if installed is State.KEPT:
        return Finding("unit", Verdict.LACKS, f"the drop-in of {unit}: {_NOT_OURS}")
    if installed is State.OLDER:
        return Finding("unit", Verdict.LACKS, "the drop-in is another; install again")
    return Finding("unit", Verdict.OK, f"{unit} has the drop-in")


def of_gateway(gateway: Gateway, changed: float, *, installed: bool) -> Iterator[Finding]:
    """Say what a running gateway knows of all that; changed is when that last was another."""
    name = f"gateway {gateway.pid}"
    if gateway.report is not None and not installed:
        yield Finding(name, Verdict.LACKS, "it has the plugin still; restart it")
        return
    if gateway.started + _TICK < changed:
        yield Finding(name, Verdict.LACKS, "started before the last change; restart it")
        return
    if os.path.basename(gateway.shell) != "scopekeeper-shell":
        hint = "" if gateway.unit else "; start it with SHELL set to scopekeeper-shell"
        yield Finding(name, Verdict.LACKS, f"its SHELL is {gateway.shell or 'not set'}{hint}")
    if gateway.report is None:
        yield Finding(name, Verdict.LACKS, "it has not loaded the plugin; see its log")
    elif gateway.gives_identity is False:
        yield Finding(name, Verdict.LACKS, "its servers cannot be told their session in this "
                      "version of OpenClaw: they share one name")  # fmt: skip
    else:
        version = gateway.report.get("openclaw") or "unknown"
        yield Finding(name, Verdict.OK, f"OpenClaw {version}, with the plugin")


def sessions(
    scopes: Sequence[Scope], gateways: Sequence[Gateway], bare: Mapping[tuple[str, ...], str]
) -> list[Session]:
    """Return what runs for each agent and session: what is in scopes, then what is in none.

    bare has the servers that are not wrapped, by their whole command.
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
