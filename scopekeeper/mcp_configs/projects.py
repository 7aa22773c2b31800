"""Finds the folders of projects: the current one, and those that clients have opened.

Some clients name them in their own file, which has a table of them (``projects_in``); editors have
a file for each (``workspaces``).
"""

import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import files
from scopekeeper.mcp_configs.formats import existing
from scopekeeper.mcp_configs.git import top_level
from scopekeeper.mcp_configs.known_clients import formats


def project_folders(environment: Mapping[str, str]) -> list[str]:
    """Return the folders of projects, the current one and its git work tree first."""
    found = [*_here()]
    for each in formats().values():
        if each.projects_in:
            found += [key for path in existing(each.files, environment)
                      for key in _keys(path, each.projects_in)]  # fmt: skip
        found += _opened(existing(each.workspaces, environment))
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


def _keys(path: str, table: str) -> Iterator[str]:
    """Yield the keys of a table at the top of a file, in JSON or TOML."""
    data = _read_toml(path) if path.endswith(".toml") else read_object(path)
    projects = data.get(table)
    yield from projects if isinstance(projects, dict) else ()


def _opened(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        url = read_object(path).get("folder")
        if isinstance(url, str) and url.startswith("file:///"):
            yield unquote(urlsplit(url).path)


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(files.read(path).text())
    except (ConfigError, ValueError, RecursionError):
        return {}


def read_object(path: str) -> dict[str, Any]:
    """Return the JSON object in a file; {} if there is none."""
    try:
        data = json.loads(files.read(path).raw)
    except (ConfigError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
