"""The files installed beside OpenClaw's configuration: the plugin and the drop-in.

Planned as ``scopekeeper install`` plans its files: edited files and files of others stay.
"""

import enum
import os

from scopekeeper.errors import ConfigError
from scopekeeper.install import plan, shipped
from scopekeeper.install.apply import look
from scopekeeper.install.locations import Piece
from scopekeeper.install.plan import FileAction, FileStep
from scopekeeper.mcp_configs.servers import PROGRAM
from scopekeeper.openclaw.locations import DROP_IN, GatewayPaths

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PLUGIN = f"{_HOME}/openclaw/plugin"


class FileState(enum.StrEnum):
    """The state of an installed part."""

    MISSING = "missing"
    OLDER = "older"
    """Written by another version of scopekeeper, or for another launcher."""
    INSTALLED = "installed"
    KEPT = "kept"
    """Edited, or not written by scopekeeper."""


def plugin(places: GatewayPaths) -> list[Piece]:
    """Return the files of the plugin; raises ConfigError."""
    pieces = []
    base = os.path.dirname(os.path.dirname(places.plugin))
    try:
        for name in sorted(os.listdir(_PLUGIN)):
            with open(f"{_PLUGIN}/{name}", encoding="utf-8") as file:
                pieces.append(Piece(name, file.read(), places.plugin, base, ()))
    except OSError:
        raise ConfigError("the plugin is missing", "install scopekeeper again") from None
    return pieces


def drop_in(places: GatewayPaths, program: str) -> Piece:
    """Return the drop-in of the unit; program is the absolute path of scopekeeper.

    Raises ConfigError.
    """
    try:
        text = shipped.read(f"openclaw-gateway.service.d/{DROP_IN}")
    except ConfigError:
        raise ConfigError(
            f"the drop-in for {places.unit} is missing", "install scopekeeper again"
        ) from None
    units = os.path.dirname(places.unit_file)
    name = f"{places.unit}.d/{DROP_IN}"
    return Piece(name, shipped.for_program(text, program), units, units, ())


def plan_plugin(places: GatewayPaths, *, force: bool = False) -> list[FileAction]:
    """Return the actions that install the plugin; raises ConfigError if its place is taken."""
    if os.path.islink(places.plugin):
        raise ConfigError(f"{places.plugin} is a link, and the plugin is not written through links",
                          "move it away")  # fmt: skip
    actions = plan.install_together(plugin(places), look, force=force)
    foreign = [action.path for action in actions if action.is_foreign]
    if foreign:
        raise ConfigError(f"{foreign[0]}: this is another plugin's", "move it away")
    return actions


def plan_drop_in(places: GatewayPaths, program: str, *, force: bool = False) -> FileAction:
    """Return the action that installs the drop-in; raises ConfigError."""
    (action,) = plan.install([drop_in(places, program)], look, force=force)
    return action


def plan_removal(places: GatewayPaths, *, force: bool = False) -> list[FileAction]:
    """Return the actions that remove both, for whichever launcher; raises ConfigError."""
    found = plan.uninstall([drop_in(places, PROGRAM)], look, force=force)
    if os.path.islink(places.plugin):
        return found
    return plan.uninstall_together(plugin(places), look, force=force) + found


def state_of(actions: list[FileAction]) -> FileState:
    """Return the state that a plan found."""
    steps = {action.step for action in actions}
    if FileStep.KEEP in steps:
        return FileState.KEPT
    if steps == {FileStep.NOTHING}:
        return FileState.INSTALLED
    there = any(look(action.path) is not None for action in actions)
    return FileState.OLDER if there else FileState.MISSING
