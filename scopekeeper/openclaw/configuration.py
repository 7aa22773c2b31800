"""What has to stand in ``openclaw.json``. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scopekeeper.mcp_clients import json5
from scopekeeper.mcp_clients.formats import FORMATS
from scopekeeper.mcp_clients.json_edit import exclude, include, put, take
from scopekeeper.mcp_clients.servers import ServerState
from scopekeeper.mcp_clients.wrap import Launcher, Selection, WrapOutcome, look, unwrap, wrap
from scopekeeper.openclaw.locations import PLUGIN

_KIND = FORMATS["openclaw"]
_ALL = Selection()
_ENTRY = ("plugins", "entries", PLUGIN)
_ALLOWED = ("plugins", "allow")


@dataclass(frozen=True, slots=True)
class PluginEntry:
    """What the gateway is told about the plugin."""

    program: str = ""
    """The launcher, where it is not found by its name."""
    conversation_access: bool = False

    @property
    def value(self) -> dict[str, object]:
        """What stands in the file."""
        value: dict[str, object] = {"enabled": True}
        if self.conversation_access:
            value["hooks"] = {"allowConversationAccess": True}
        if self.program:
            value["config"] = {"program": self.program}
        return value


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to say of a configuration as it stands."""

    servers: tuple[WrapOutcome, ...]
    notes: tuple[str, ...]
    entry: object
    """None where there is none."""
    blocked: str
    """Why OpenClaw loads no plugin of ours; '' where it does."""
    bare: dict[tuple[str, ...], str]
    """The servers that are started without us, by their whole command."""


def contained(
    text: str, launcher: Launcher, entry: PluginEntry
) -> tuple[str, Sequence[WrapOutcome]]:
    """Return the text with everything that contains its gateway; raises ParseError."""
    rewrite = wrap(text, _KIND, launcher, _ALL)
    text = include(rewrite.text, json5.JSON5, _ALLOWED, PLUGIN)
    return put(text, json5.JSON5, _ENTRY, entry.value), rewrite.outcomes


def released(text: str) -> tuple[str, Sequence[WrapOutcome]]:
    """Return the text as it was before; raises ParseError."""
    text = take(text, json5.JSON5, _ENTRY)
    rewrite = unwrap(exclude(text, json5.JSON5, _ALLOWED, PLUGIN), _KIND, _ALL)
    return rewrite.text, rewrite.outcomes


def look_at(text: str) -> Seen:
    """Say what stands there; raises ParseError."""
    rewrite = look(text, _KIND, _ALL)
    data = json5.parse(text, json5.JSON5).data
    plugins = data.get("plugins") if isinstance(data, dict) else None
    bare = _bare(data, rewrite.outcomes)
    if not isinstance(plugins, dict):
        return Seen(rewrite.outcomes, rewrite.notes, None, "", bare)
    entries = plugins.get("entries")
    entry = entries.get(PLUGIN) if isinstance(entries, dict) else None
    return Seen(rewrite.outcomes, rewrite.notes, entry, _blocked(plugins, entry), bare)


def _blocked(plugins: dict[str, object], entry: object) -> str:
    if plugins.get("enabled") is False:
        return "plugins.enabled is false"
    denied, allowed = plugins.get("deny"), plugins.get("allow")
    if isinstance(denied, list) and PLUGIN in denied:
        return "plugins.deny names it"
    if isinstance(allowed, list) and allowed and PLUGIN not in allowed:
        return "plugins.allow does not name it"
    if isinstance(entry, dict) and entry.get("enabled") is False:
        return "it is not enabled"
    return ""


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
    """Return the servers that are started without us."""
    return [
        each for each in servers if each.state in (ServerState.NOT_WRAPPED, ServerState.UNCLEAR)
    ]
