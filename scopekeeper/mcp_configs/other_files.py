"""Finds files with servers that ``wrap`` does not rewrite unasked: those of projects and plugins.

Claude Code names its plugins in ``installed_plugins.json``; Gemini CLI has a folder for each
extension.
"""

import glob
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.formats import FORMATS, PROJECT_FILES, found
from scopekeeper.mcp_configs.projects import project_folders, read_object

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
    is_projects: bool = False
    """Whether it is in the folder of a project, where ``wrap FILE`` may rewrite it."""


def project_files(environment: Mapping[str, str], client: str | None = None) -> list[OtherFile]:
    """Return the files of projects that exist, for one client or for all.

    A project is the current folder, its git work tree, and what a client has opened.
    """
    seen = {os.path.realpath(path) for path, _ in found(environment)}
    files = []
    for folder in project_folders(environment):
        for name, owner in PROJECT_FILES.items():
            for path in sorted(glob.glob(f"{glob.escape(folder)}/{name}")):
                real = os.path.realpath(path)
                if client in (None, owner) and real not in seen and os.path.isfile(real):
                    seen.add(real)
                    remedy = f"`scopekeeper wrap {shlex.quote(path)}`"
                    files.append(OtherFile(path, FORMATS[owner], remedy, is_projects=True))
    return files


def plugin_files(environment: Mapping[str, str], client: str | None = None) -> list[OtherFile]:
    """Return the files of plugins that exist, for one client or for all."""
    files: list[OtherFile] = []
    if client in (None, "claude-code"):
        files += _claude_plugins(environment)
    if client in (None, "gemini"):
        files += _gemini_extensions(environment)
    return files


def _claude_plugins(environment: Mapping[str, str]) -> Iterator[OtherFile]:
    home = environment.get("HOME", "")
    folder = environment.get("CLAUDE_CONFIG_DIR") or (f"{home}/.claude" if home else "")
    if not folder:
        return
    enabled = read_object(f"{folder}/settings.json").get("enabledPlugins")
    plugins = read_object(f"{folder}/plugins/installed_plugins.json").get("plugins")
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
    named = read_object(manifest).get("mcpServers")
    paths = [f"{folder}/.mcp.json"]
    if isinstance(named, str):
        paths.append(os.path.normpath(f"{folder}/{named}"))
    for path in dict.fromkeys(paths):
        data = read_object(path)
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
        if read_object(path).get("mcpServers"):
            yield OtherFile(path, _GEMINI, _around(f"Gemini CLI's extension {name}", "gemini"))


def _around(owner: str, program: str) -> str:
    return (
        f"it belongs to {owner}, whose update replaces it: start the client contained, by "
        f"`scopekeeper run -n {program} -- {program}`"
    )
