"""Finds the folders of projects: the current one, and those that clients have opened.

Claude Code and Codex name them in their own file; VS Code and Cursor have a folder for each.
"""

import glob
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import files
from scopekeeper.mcp_configs.git import top_level

_EDITORS = ("Code", "Code - Insiders", "VSCodium", "Code - OSS", "Cursor")
"""Folders below ``$XDG_CONFIG_HOME``."""


def project_folders(environment: Mapping[str, str]) -> list[str]:
    """Return the folders of projects, the current one and its git work tree first."""
    found = [*_here(), *_of_claude(environment), *_of_codex(environment), *_of_editors(environment)]
    return [folder for folder in dict.fromkeys(found) if os.path.isabs(folder) and _is_path(folder)]


def _is_path(text: str) -> bool:
    """Return whether a file can have this name: JSON may have anything."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _here() -> Iterator[str]:
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        return
    yield here
    if top := top_level(here):
        yield top


def _of_claude(environment: Mapping[str, str]) -> Iterator[str]:
    for variable in ("CLAUDE_CONFIG_DIR", "HOME"):
        if folder := environment.get(variable):
            projects = read_object(f"{folder}/.claude.json").get("projects")
            yield from projects if isinstance(projects, dict) else ()


def _of_codex(environment: Mapping[str, str]) -> Iterator[str]:
    home = environment.get("HOME", "")
    folder = environment.get("CODEX_HOME") or (f"{home}/.codex" if home else "")
    try:
        data = tomllib.loads(files.read(f"{folder}/config.toml").text()) if folder else {}
    except (ConfigError, ValueError, RecursionError):
        return
    projects = data.get("projects")
    yield from projects if isinstance(projects, dict) else ()


def _of_editors(environment: Mapping[str, str]) -> Iterator[str]:
    home = environment.get("HOME", "")
    config = environment.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    for editor in _EDITORS if config else ():
        folder = f"{glob.escape(config)}/{editor}/User/workspaceStorage/*/workspace.json"
        for path in sorted(glob.glob(folder)):
            url = read_object(path).get("folder")
            if isinstance(url, str) and url.startswith("file:///"):
                yield unquote(urlsplit(url).path)


def read_object(path: str) -> dict[str, Any]:
    """Return the JSON object in a file; {} if there is none."""
    try:
        data = json.loads(files.read(path).raw)
    except (ConfigError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
