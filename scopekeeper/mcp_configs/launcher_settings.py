"""The programs of ours in clients' settings: without one, its client starts no command.

``[NAME.launchers]`` of ``clients.toml`` has the file and the variables.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scopekeeper.clients import known
from scopekeeper.clients.known import Client, Launchers
from scopekeeper.errors import ConfigError
from scopekeeper.launch import real_shell
from scopekeeper.mcp_configs import files
from scopekeeper.mcp_configs.formats import first_folder

_FOLDER = "/scopekeeper/shells/"


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable in a settings file that names a program of ours."""

    client: Client
    path: str
    variable: str
    program: str

    @property
    def is_missing(self) -> bool:
        """Whether the program is gone."""
        return "/" in self.program and not os.access(self.program, os.X_OK)


def settings(environment: Mapping[str, str]) -> list[Setting]:
    """Return the settings of this user that name a program of ours.

    A file that is missing, or is no settings file, has none.
    """
    return [
        setting
        for client in known.read([])
        if client.launchers
        for setting in _settings_of(client, client.launchers, environment)
    ]


def _settings_of(
    client: Client, launchers: Launchers, environment: Mapping[str, str]
) -> Iterator[Setting]:
    folder = first_folder(launchers.folders, environment)
    path = f"{folder}/{launchers.file}"
    try:
        document = json.loads(files.read(path).text())
    except (ConfigError, ValueError, RecursionError):
        return
    table = document.get(launchers.key) if isinstance(document, dict) else None
    if not isinstance(table, dict):
        return
    for name, ours in launchers.variables:
        if isinstance(program := table.get(name), str) and _is_ours(ours, program):
            yield Setting(client, path, name, program)


def _is_ours(ours: str, program: str) -> bool:
    name = os.path.basename(program)
    if ours != real_shell.NAME:
        return name == ours
    return _FOLDER in program or real_shell.NAME in (name, _target(program))


def _target(program: str) -> str:
    return os.path.basename(os.path.realpath(program)) if "/" in program else ""
