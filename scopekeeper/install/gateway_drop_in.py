"""The drop-in for a gateway's unit."""

import os
import re

from scopekeeper.errors import ConfigError, UsageError
from scopekeeper.install import origin, plan, shipped
from scopekeeper.install.apply import look
from scopekeeper.install.locations import Locations, Piece
from scopekeeper.install.plan import FileAction
from scopekeeper.systemd.systemctl import Systemctl
from scopekeeper.systemd.units import KEEPER

LEAVES_PROCESSES = ("process", "none")
"""Values of KillMode= with which a stop leaves processes of the unit (systemd.kill(5))."""
_OPENCLAW = "openclaw-gateway"
_SERVICE = re.compile(r"[A-Za-z0-9:_.\\@-]+\.service")
"""The name of a service (systemd.unit(5))."""


def drop_ins(
    manager: Systemctl, places: Locations, program: str, gateway: str, *, shell: bool
) -> list[FileAction]:
    """Return the actions for a gateway's drop-in and for our existing drop-ins."""
    texts = {}
    for unit, path in existing_drop_ins(places):
        raw = look(path) or b""
        if origin.origin(raw) is origin.Origin.OURS:
            had = shipped.names_shell(raw.decode("utf-8", "replace"))
            texts[unit] = shipped.drop_in(program, shell=had)
    if gateway:
        check_gateway(manager, places, gateway)
        texts[gateway] = shipped.drop_in(program, shell=shell)
    return plan.install([piece_of(places, u, t) for u, t in sorted(texts.items())], look)


def piece_of(places: Locations, unit: str, text: str) -> Piece:
    """Return the drop-in of a unit as a piece; uninstall removes its folder too."""
    return Piece(f"{unit}.d/{shipped.DROP_IN}", text, places.units, places.home or places.units, ())


def existing_drop_ins(places: Locations) -> list[tuple[str, str]]:
    """Return (unit, path) of each file with the name of our drop-in, except OpenClaw's."""
    try:
        folders = sorted(os.listdir(places.units))
    except OSError:
        return []
    found = [(name[:-2], places.drop_in(name[:-2])) for name in folders if name.endswith(".d")]
    return [
        (unit, path)
        for unit, path in found
        if not unit.startswith(_OPENCLAW) and os.path.lexists(path)
    ]


def gateway_unit(name: str) -> str:
    """Return the full name of a gateway's unit; raises UsageError."""
    unit = name if "." in name else f"{name}.service"
    if not _SERVICE.fullmatch(unit) or unit == KEEPER:
        raise UsageError(
            f"--gateway {name!r} is no service of a gateway",
            "give the name of its unit, as `systemctl list-units --type=service` shows it "
            "(for your own manager with --user)",
        )
    if unit.startswith(_OPENCLAW):
        raise UsageError(f"{unit} is OpenClaw's", "`scopekeeper openclaw install` contains it")
    return unit


def check_gateway(manager: Systemctl, places: Locations, unit: str) -> None:
    """Raise ConfigError if the manager has no such unit."""
    if not manager.has(unit):
        raise ConfigError(
            f"the {places.manager} manager has no {unit}",
            f"`{' '.join(manager.argv('list-unit-files'))}` lists those that there are",
        )


def leaves_behind(unit: str, mode: str, units: str, option: str) -> list[str]:
    """Return a warning if what a gateway starts outside of scopes outlives its stop. Pure.

    mode is its KillMode=, units the folder of its manager's units, option that of systemctl.
    """
    if mode not in LEAVES_PROCESSES:
        return []
    mend = (
        "printf '[Service]\\nKillMode=mixed\\n' | install -Dm644 /dev/stdin "
        f"{units}/{unit}.d/20-kill-mode.conf && systemctl{option} daemon-reload"
    )
    restart = f"systemctl{option} restart {unit}"
    return [
        f"{unit}: KillMode={mode} leaves what is in no scope at a stop; to end it too: {mend}",
        f"{unit}: a command of its own that stops it ends too; from inside, restart it: {restart}",
    ]
