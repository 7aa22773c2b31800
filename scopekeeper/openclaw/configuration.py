"""Edits and inspects the text of ``openclaw.json``. Pure."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scopekeeper.mcp_configs import json5
from scopekeeper.mcp_configs.json_edit import exclude, include, put, take
from scopekeeper.mcp_configs.known_clients import built_in
from scopekeeper.mcp_configs.servers import ServerState, holds
from scopekeeper.mcp_configs.wrap import Launcher, Selection, WrapOutcome, look, unwrap, wrap
from scopekeeper.openclaw.locations import PLUGIN

_KIND = built_in()["openclaw"]
_ALL = Selection()
_ENTRY = ("plugins", "entries", PLUGIN)
_ALLOWED = ("plugins", "allow")


@dataclass(frozen=True, slots=True)
class PluginEntry:
    """The plugin's entry in the configuration."""

    program: str = ""
    """The launcher's path; '' if PATH has it."""
    conversation_access: bool = False

    @property
    def value(self) -> dict[str, object]:
        """The JSON value of the entry."""
        value: dict[str, object] = {"enabled": True}
        if self.conversation_access:
            value["hooks"] = {"allowConversationAccess": True}
        if self.program:
            value["config"] = {"program": self.program}
        return value


@dataclass(frozen=True, slots=True)
class Found:
    """The current state of a configuration."""

    servers: tuple[WrapOutcome, ...]
    notes: tuple[str, ...]
    entry: object
    """The plugin's entry; None if there is none."""
    blocked: str
    """Why OpenClaw does not load the plugin; '' if it does."""
    bare: dict[tuple[str, ...], str]
    """The names of servers that are not wrapped, by their whole command."""
    backends: frozenset[str] = frozenset()
    """The file names of programs that this configuration runs as models."""


def contained(
    text: str, launcher: Launcher, entry: PluginEntry, is_missing: Callable[[str], bool]
) -> tuple[str, Sequence[WrapOutcome]]:
    """Return the text changed to contain the gateway; raises ParseError.

    Servers that are wrapped by a launcher that is missing get this one, and keep their options.
    """
    rewrite = wrap(text, _KIND, launcher, _ALL)
    text = rewrite.text
    gone = {each.name for each in rewrite.outcomes
            if each.program and not each.changed and is_missing(each.program)}  # fmt: skip
    if gone:
        bare = replace(launcher, options=None)
        text = wrap(text, _KIND, bare, Selection(frozenset(gone)), update=True).text
    text = include(text, json5.JSON5, _ALLOWED, PLUGIN)
    return put(text, json5.JSON5, _ENTRY, entry.value), rewrite.outcomes


def released(text: str) -> tuple[str, Sequence[WrapOutcome]]:
    """Return the text with all that undone; raises ParseError."""
    text = take(text, json5.JSON5, _ENTRY)
    rewrite = unwrap(exclude(text, json5.JSON5, _ALLOWED, PLUGIN), _KIND, _ALL)
    return rewrite.text, rewrite.outcomes


def holds_servers(text: str, backup: bytes) -> bool:
    """Return whether a text has every server of a backup, with the same values."""
    return holds(text, backup, _KIND)


def look_at(text: str) -> Found:
    """Return the current state of a configuration; raises ParseError."""
    rewrite = look(text, _KIND, _ALL)
    data = json5.parse(text, json5.JSON5).data
    plugins = data.get("plugins") if isinstance(data, dict) else None
    bare = _bare(data, rewrite.outcomes)
    backends = _backends(data)
    if not isinstance(plugins, dict):
        return Found(rewrite.outcomes, rewrite.notes, None, "", bare, backends)
    entries = plugins.get("entries")
    entry = entries.get(PLUGIN) if isinstance(entries, dict) else None
    return Found(rewrite.outcomes, rewrite.notes, entry, _blocked(plugins, entry), bare, backends)


def _blocked(plugins: dict[str, object], entry: object) -> str:
    if plugins.get("enabled") is False:
        return "plugins.enabled is false"
    denied, allowed = plugins.get("deny"), plugins.get("allow")
    if isinstance(denied, list) and PLUGIN in denied:
        return f"plugins.deny lists {PLUGIN}"
    if isinstance(allowed, list) and allowed and PLUGIN not in allowed:
        return f"plugins.allow does not list {PLUGIN}"
    if isinstance(entry, dict) and entry.get("enabled") is False:
        return f"plugins.entries.{PLUGIN}.enabled is false"
    return ""


def _backends(data: object) -> frozenset[str]:
    """Return the names of the programs in ``agents.defaults.cliBackends``."""
    for key in ("agents", "defaults", "cliBackends"):
        data = data.get(key) if isinstance(data, dict) else None
    backends = data.values() if isinstance(data, dict) else ()
    commands = (each.get("command") for each in backends if isinstance(each, dict))
    return frozenset(os.path.basename(each) for each in commands if isinstance(each, str) and each)


def _bare(data: object, servers: Sequence[WrapOutcome]) -> dict[tuple[str, ...], str]:
    found = {}
    for each in servers:
        if each.state is ServerState.NOT_WRAPPED:
            server: Any = data
            for key in (*each.place, each.name):
                server = server[key]
            found[(server["command"], *map(str, server.get("args", [])))] = each.name
    return found


def not_wrapped(servers: Sequence[WrapOutcome]) -> list[WrapOutcome]:
    """Return the servers that start without ``scopekeeper run``, or may."""
    states = (ServerState.NOT_WRAPPED, ServerState.UNCLEAR, ServerState.NO_LAUNCHER)
    return [each for each in servers if each.state in states]
