"""Finds the files of this user's OpenClaw, and its package.

OpenClaw 2026.4 and 2026.9 agree: ``OPENCLAW_CONFIG_PATH``, ``OPENCLAW_STATE_DIR`` and
``OPENCLAW_HOME`` override ``~/.openclaw``; a profile has its own state folder and unit.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from scopekeeper import regular_files
from scopekeeper.errors import ConfigError

PLUGIN = "scopekeeper"
"""The id of the plugin, and the name of its folder."""
DROP_IN = "10-scopekeeper.conf"
_MOST = 64 << 20
"""Bytes of a file of the package, or of its unit."""
_EXEC_START = re.compile(r"^ExecStart=(.*)$", re.MULTILINE)
_UNSET = ("", "undefined", "null")
"""Values of variables that OpenClaw treats as unset."""


@dataclass(frozen=True, slots=True)
class GatewayPaths:
    """The files and the unit of one gateway."""

    config: str
    plugin: str
    """The folder of the plugin."""
    unit: str
    """The name of the user's unit, which may not exist."""
    unit_file: str
    drop_in: str


def find(environment: Mapping[str, str], *, profile: str = "", config: str = "") -> GatewayPaths:
    """Return the paths, of files that may not exist; raises ConfigError if HOME is not set."""
    variables = {name: value for name, value in environment.items() if value.strip() not in _UNSET}
    home = variables.get("HOME")
    if home is None:
        raise ConfigError("HOME is not set", "set it to the home of OpenClaw's user")
    profile = profile or variables.get("OPENCLAW_PROFILE", "")
    suffix = f"-{profile}" if profile and profile != "default" else ""
    own = os.path.expanduser(variables.get("OPENCLAW_HOME", home))
    state = variables.get("OPENCLAW_STATE_DIR", f"{own}/.openclaw{suffix}")
    path = config or variables.get("OPENCLAW_CONFIG_PATH", f"{state}/openclaw.json")
    unit = f"openclaw-gateway{suffix}.service"
    units = f"{variables.get('XDG_CONFIG_HOME', f'{home}/.config')}/systemd/user"
    return GatewayPaths(
        os.path.abspath(path),
        os.path.abspath(f"{state}/extensions/{PLUGIN}"),
        unit,
        f"{units}/{unit}",
        f"{units}/{unit}.d/{DROP_IN}",
    )


@dataclass(frozen=True, slots=True)
class Package:
    """An OpenClaw package, as npm installs it."""

    folder: str
    version: str

    def wants_conversation_access(self) -> bool:
        """Return whether a plugin needs ``allowConversationAccess`` to receive ``agent_end``.

        A version without that setting refuses a configuration that has it, so this looks for it in
        the package's schema. It appeared between 2026.4.15 and 2026.9.6.
        """
        dist = f"{self.folder}/dist"
        for name in sorted(os.listdir(dist)):
            if "schema" in name and name.endswith((".js", ".mjs")):
                schema = _content(f"{dist}/{name}")
                if b"allowPromptInjection" in schema:
                    return b"allowConversationAccess" in schema
        return False


def package(places: GatewayPaths, environment: Mapping[str, str]) -> Package | None:
    """Return the OpenClaw that the unit starts, else the one in PATH; None if there is none."""
    words: list[str] = []
    try:
        unit = _content(places.unit_file).decode()
        for line in _EXEC_START.findall(unit):
            words += shlex.split(line)
    except (OSError, ValueError):
        pass
    in_path = shutil.which("openclaw", path=environment.get("PATH", os.defpath))
    for word in [*words, *([in_path] if in_path else [])]:
        if word.startswith("/") and (found := _package_of(os.path.realpath(word))):
            return found
    return None


def _package_of(path: str) -> Package | None:
    """Return the package that a file belongs to."""
    folder = os.path.dirname(path)
    while folder != "/":
        try:
            package = json.loads(_content(f"{folder}/package.json"))
            if package.get("name") == "openclaw" and os.path.isdir(f"{folder}/dist"):
                return Package(folder, str(package.get("version", "")))
        except (OSError, ValueError, AttributeError):
            pass
        folder = os.path.dirname(folder)
    return None


def _content(path: str) -> bytes:
    """Return the content of a file, whoever installed it; raises OSError."""
    return regular_files.read(path, _MOST, follow=True, any_owner=True)
