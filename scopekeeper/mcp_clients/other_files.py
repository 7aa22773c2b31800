"""Finds files with servers that ``wrap`` does not rewrite unasked: those of projects and plugins.

Claude Code names its projects in its own file, and its plugins in ``installed_plugins.json``;
Gemini CLI has a folder for each extension.
"""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_clients import files
from scopekeeper.mcp_clients.formats import FORMATS, Format

_CLAUDE = FORMATS["claude-code"]
_FLAT = replace(_CLAUDE, places=((),))
"""The other form of a plugin's file: its keys are the servers."""
_GEMINI = replace(FORMATS["gemini"], places=(("mcpServers",),))


@dataclass(frozen=True, slots=True)
class OtherFile:
    """A file with servers, beside the user's own files."""

    path: str
    kind: Format
    remedy: str
    """What contains its servers."""


def other_files(environment: Mapping[str, str], client: str | None = None) -> list[OtherFile]:
    """Return the files of projects and plugins that exist, for one client or for all."""
    found: list[OtherFile] = []
    if client in (None, "claude-code"):
        found += _claude_projects(environment)
        found += _claude_plugins(environment)
    if client in (None, "gemini"):
        found += _gemini_extensions(environment)
    return found


def _claude_projects(environment: Mapping[str, str]) -> Iterator[OtherFile]:
    own = (("CLAUDE_CONFIG_DIR", ".claude.json"), ("HOME", ".claude.json"))
    seen = set()
    for variable, name in own:
        folder = environment.get(variable, "")
        projects = _read(f"{folder}/{name}").get("projects") if folder else None
        for project in projects if isinstance(projects, dict) else ():
            path = os.path.join(project, ".mcp.json")
            if os.path.isabs(project) and path not in seen and os.path.isfile(path):
                seen.add(path)
                yield OtherFile(path, _CLAUDE, f"`scopekeeper wrap {shlex.quote(path)}`")


def _claude_plugins(environment: Mapping[str, str]) -> Iterator[OtherFile]:
    home = environment.get("HOME", "")
    folder = environment.get("CLAUDE_CONFIG_DIR") or (f"{home}/.claude" if home else "")
    if not folder:
        return
    enabled = _read(f"{folder}/settings.json").get("enabledPlugins")
    plugins = _read(f"{folder}/plugins/installed_plugins.json").get("plugins")
    for name, entries in plugins.items() if isinstance(plugins, dict) else ():
        if isinstance(enabled, dict) and enabled.get(name) is False:
            continue
        # version 1 has one entry, version 2 a list
        for entry in entries if isinstance(entries, list) else [entries]:
            place = entry.get("installPath") if isinstance(entry, dict) else None
            if isinstance(place, str):
                yield from _plugin_files(place, f"Claude Code's plugin {name}", "claude")


def _plugin_files(folder: str, owner: str, program: str) -> Iterator[OtherFile]:
    manifest = f"{folder}/.claude-plugin/plugin.json"
    named = _read(manifest).get("mcpServers")
    paths = [f"{folder}/.mcp.json"]
    if isinstance(named, str):
        paths.append(os.path.normpath(f"{folder}/{named}"))
    for path in dict.fromkeys(paths):
        data = _read(path)
        if data:
            yield OtherFile(path, _CLAUDE if "mcpServers" in data else _FLAT,
                            _around(owner, program))  # fmt: skip
    if isinstance(named, dict):
        yield OtherFile(manifest, _CLAUDE, _around(owner, program))


def _gemini_extensions(environment: Mapping[str, str]) -> Iterator[OtherFile]:
    folder = f"{environment.get('HOME', '')}/.gemini/extensions"
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        path = f"{folder}/{name}/gemini-extension.json"
        if _read(path).get("mcpServers"):
            yield OtherFile(path, _GEMINI, _around(f"Gemini CLI's extension {name}", "gemini"))


def _around(owner: str, program: str) -> str:
    return (
        f"it belongs to {owner}, whose update replaces it: start the client contained, by "
        f"`scopekeeper run -n {program} -- {program}`"
    )


def _read(path: str) -> dict[str, Any]:
    """Return the JSON object in a file; {} if there is none."""
    try:
        data = json.loads(files.read(path).raw)
    except (ConfigError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
