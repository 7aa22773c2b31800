"""The unit and bus files of the package, adapted to one program."""

import contextlib
import os
import re

from scopekeeper.errors import ConfigError
from scopekeeper.systemd.units import KEEPER, SLICE

TIMER = "scopekeeper-reconcile.timer"
ENABLED = ("scopekeeper-reconcile.service", TIMER)
"""The units that systemd starts by itself."""
TEMPLATE = "scopekeeper@.service"
UNITS = (SLICE, KEEPER, *ENABLED, TEMPLATE)
"""For the system's manager and for a user's."""
SYSTEM_UNITS = (f"{KEEPER}.d/10-system.conf",)
"""For the system's manager alone; in the folder ``system``."""
BUS_SERVICE = "org.scopekeeper.Keeper1.service"
BUS_POLICY = "org.scopekeeper.Keeper1.conf"
DROP_IN = "10-scopekeeper.conf"
"""The name of the drop-in for a gateway's unit."""

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOLDERS = (f"{_HOME}/units", f"{os.path.dirname(_HOME)}/units")
"""In a wheel, and in a checkout."""
_PROGRAM = "scopekeeper"
_SHELL = "/usr/bin/scopekeeper-shell"
_WORD = r'(?:"(?:[^"\\\n]|\\.)*"|\S+)'
_CALLED = re.compile(rf"(?m)^(Exec\w+=[-@:+!]*)({_WORD})(?=[ \n])")
_AS_SHELL = re.compile(rf"(?m)^(Environment=SHELL=)({_WORD})$")


def read(name: str) -> str:
    """Return the text of a shipped file; raises ConfigError."""
    for folder in _FOLDERS:
        with (
            contextlib.suppress(OSError),
            open(f"{folder}/{name}", encoding="utf-8") as file,
        ):
            return file.read()
    raise ConfigError(f"{name} is missing from the package", "install scopekeeper again")


def for_program(text: str, program: str) -> str:
    """Return a unit's text with the full paths of the program and of the shell beside it. Pure."""

    def called(match: re.Match[str]) -> str:
        return match[1] + (quoted(program) if match[2] == _PROGRAM else match[2])

    def as_shell(match: re.Match[str]) -> str:
        return match[1] + (quoted(f"{program}-shell") if match[2] == _SHELL else match[2])

    return _AS_SHELL.sub(as_shell, _CALLED.sub(called, text))


def for_any(text: str) -> str:
    """Return a unit's text as shipped, whichever program it was adapted to. Pure."""

    def called(match: re.Match[str]) -> str:
        named = os.path.basename(match[2].strip('"'))
        return match[1] + (_PROGRAM if named == _PROGRAM else match[2])

    def as_shell(match: re.Match[str]) -> str:
        named = os.path.basename(match[2].strip('"'))
        return match[1] + (_SHELL if named == os.path.basename(_SHELL) else match[2])

    return _AS_SHELL.sub(as_shell, _CALLED.sub(called, text))


def drop_in(program: str, *, shell: bool) -> str:
    """Return the drop-in for a gateway's unit; raises ConfigError.

    shell: set the gateway's ``SHELL`` to ours.
    """
    text = for_program(read(f"gateway.service.d/{DROP_IN}"), program)
    return text if shell else _AS_SHELL.sub("", text).rstrip("\n") + "\n"


def names_shell(text: str) -> bool:
    """Return whether a drop-in sets its gateway's shell. Pure."""
    return _AS_SHELL.search(text) is not None


def quoted(path: str) -> str:
    """Quote a path for a unit file and escape specifiers (systemd.unit(5)). Pure."""
    path = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{path}"' if any(char in path for char in " \t'\\\"") else path
