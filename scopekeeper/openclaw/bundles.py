"""Finds the files with MCP servers in the bundles of other plugins.

A bundle is a plugin in the format of Claude, Codex, Cursor or Agent Plugins. OpenClaw 2026.4 and
2026.9 agree: its servers are in ``.mcp.json``, in ``mcp.json`` for Agent Plugins, and in files that
its manifest names. OpenClaw merges them with those of its own configuration.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import files, json5
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.formats import recognise
from scopekeeper.mcp_configs.projects import read_object
from scopekeeper.mcp_configs.wrap import Selection, WrapOutcome, look
from scopekeeper.openclaw.locations import PLUGIN, GatewayPaths

_USUAL = (".mcp.json", "mcp.json")
_MANIFESTS = tuple(f"{each}plugin.json" for each in (".claude-plugin/", ".codex-plugin/",
                                                     ".cursor-plugin/", ""))  # fmt: skip
_NATIVE = "openclaw.plugin.json"
_MOST = 256
"""Folders of plugins that are looked at."""


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file with servers in the bundle of a plugin."""

    plugin: str
    path: str
    kind: Format
    text: str
    servers: tuple[WrapOutcome, ...]


def of_gateway(places: GatewayPaths) -> list[BundleFile]:
    """Return the files that OpenClaw reads; those that cannot be read are skipped."""
    plugins = _plugins(places.config)
    if plugins.get("enabled") is False:
        return []
    own = os.path.dirname(places.plugin)
    found: dict[str, BundleFile] = {}
    for folder in _folders(own, plugins):
        name = os.path.basename(folder)
        if not _is_off(name, plugins):
            for path in _paths(folder):
                real = os.path.realpath(path)
                if real not in found and (file := _read(name, path)):
                    found[real] = file
    return list(found.values())


def _plugins(config: str) -> Mapping[str, Any]:
    try:
        data = json5.parse(files.read(config).text(), json5.JSON5).data
    except (ConfigError, ParseError):
        return {}
    plugins = data.get("plugins") if isinstance(data, dict) else None
    return plugins if isinstance(plugins, dict) else {}


def _folders(own: str, plugins: Mapping[str, Any]) -> Iterator[str]:
    """Yield the folders of plugins: installed ones, and those that the configuration names."""
    load = plugins.get("load")
    named = load.get("paths") if isinstance(load, dict) else None
    places = [each for each in named if isinstance(each, str)] if isinstance(named, list) else []
    with contextlib.suppress(OSError):
        places = [f"{own}/{name}" for name in sorted(os.listdir(own))] + places
    for place in places[:_MOST]:
        folder = os.path.expanduser(place)
        if os.path.isabs(folder) and os.path.isdir(folder):
            yield folder.rstrip("/")


def _is_off(name: str, plugins: Mapping[str, Any]) -> bool:
    entries, denied = plugins.get("entries"), plugins.get("deny")
    entry = entries.get(name) if isinstance(entries, dict) else None
    is_disabled = isinstance(entry, dict) and entry.get("enabled") is False
    return name == PLUGIN or is_disabled or (isinstance(denied, list) and name in denied)


def _paths(folder: str) -> list[str]:
    """Return the existing files of a bundle; none for a plugin that is no bundle."""
    manifests = [f"{folder}/{each}" for each in _MANIFESTS if os.path.isfile(f"{folder}/{each}")]
    if os.path.isfile(f"{folder}/{_NATIVE}") and manifests in ([], [f"{folder}/plugin.json"]):
        return []
    paths = [f"{folder}/{name}" for name in _USUAL]
    for manifest in manifests:
        named = read_object(manifest).get("mcpServers")
        listed = named if isinstance(named, list) else [named]
        paths += [os.path.normpath(f"{folder}/{each}") for each in listed if isinstance(each, str)]
    inside = f"{os.path.realpath(folder)}/"
    return [path for path in dict.fromkeys(paths)
            if os.path.isfile(path) and os.path.realpath(path).startswith(inside)]  # fmt: skip


def _read(plugin: str, path: str) -> BundleFile | None:
    try:
        text = files.read(path).text()
        kind = recognise(path, text)
        servers = look(text, kind, Selection()).outcomes if kind else ()
    except (ConfigError, ParseError):
        return None
    return BundleFile(plugin, path, kind, text, servers) if kind and servers else None
