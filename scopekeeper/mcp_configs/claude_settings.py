"""The programs of ours in Claude Code's settings: without one, it starts no command."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from scopekeeper.launch import real_shell, shell_prefix

_PREFIX = "CLAUDE_CODE_SHELL_PREFIX"
_SHELL = "CLAUDE_CODE_SHELL"
_FOLDER = "/scopekeeper/shells/"


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable in a settings file that names a program of ours."""

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
    folder = environment.get("CLAUDE_CONFIG_DIR") or f"{environment.get('HOME', '')}/.claude"
    path = f"{folder}/settings.json"
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError, RecursionError):
        return []
    variables = document.get("env") if isinstance(document, dict) else None
    if not isinstance(variables, dict):
        return []
    return [
        Setting(path, name, program)
        for name in (_PREFIX, _SHELL)
        if isinstance(program := variables.get(name), str) and _is_ours(name, program)
    ]


def _is_ours(variable: str, program: str) -> bool:
    name = os.path.basename(program)
    if variable == _PREFIX:
        return name == shell_prefix.NAME
    return _FOLDER in program or real_shell.NAME in (name, _target(program))


def _target(program: str) -> str:
    return os.path.basename(os.path.realpath(program)) if "/" in program else ""
