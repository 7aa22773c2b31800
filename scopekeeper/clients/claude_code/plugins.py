"""The plugins of Claude Code: it names them in ``installed_plugins.json``.

Their servers are in the manifest, in ``.mcp.json``, or in a file that the manifest names.
"""

import os
from collections.abc import Iterator, Mapping

from scopekeeper.clients.plugin import Plugin, ReadObject


def plugins(environment: Mapping[str, str], read: ReadObject) -> Iterator[Plugin]:
    """Yield the files of each plugin that is not switched off."""
    home = environment.get("HOME", "")
    folder = environment.get("CLAUDE_CONFIG_DIR") or (f"{home}/.claude" if home else "")
    if not folder:
        return
    enabled = read(f"{folder}/settings.json").get("enabledPlugins")
    known = read(f"{folder}/plugins/installed_plugins.json").get("plugins")
    for name, entries in known.items() if isinstance(known, dict) else ():
        if isinstance(enabled, dict) and enabled.get(name) is False:
            continue
        # version 1 has one entry, version 2 a list
        for entry in entries if isinstance(entries, list) else [entries]:
            place = entry.get("installPath") if isinstance(entry, dict) else None
            if isinstance(place, str):
                yield from _files(name, place, read)


def _files(name: str, folder: str, read: ReadObject) -> Iterator[Plugin]:
    manifest = f"{folder}/.claude-plugin/plugin.json"
    servers = read(manifest).get("mcpServers")
    paths = [f"{folder}/.mcp.json"]
    if isinstance(servers, str):
        paths.append(os.path.normpath(f"{folder}/{servers}"))
    for path in dict.fromkeys(paths):
        data = read(path)
        if data:
            yield Plugin(name, path, is_flat="mcpServers" not in data)
    if isinstance(servers, dict):
        yield Plugin(name, manifest)
