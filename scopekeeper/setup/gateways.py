"""The step for gateways that are services: a drop-in has their scopes end with them.

A gateway is known by its ``ExecStart=``: it runs ``scopekeeper run``, or a client of MCP servers.
Only units in the folder where their users write them are read: they are few, and no manager is
asked.
"""

import os
import re
import shlex
from collections.abc import Iterator

from scopekeeper import regular_files
from scopekeeper.doctor import parts
from scopekeeper.errors import ScopekeeperError
from scopekeeper.install import gateway_report, shipped
from scopekeeper.install.apply import Applied, Talk, carry_out, plan_of, reloads
from scopekeeper.install.gateway_drop_in import drop_ins
from scopekeeper.install.locations import Locations
from scopekeeper.install.plan import FileStep
from scopekeeper.install.uninstall import Part, uninstall
from scopekeeper.mcp_configs.running import client_of
from scopekeeper.mcp_configs.servers import PROGRAM
from scopekeeper.scope.placement import Caller
from scopekeeper.setup.keeper import missing_folders
from scopekeeper.setup.step import Facts, Found, Machine, Need, Outcome
from scopekeeper.systemd.systemctl import Systemctl

_EXEC_START = re.compile(r"(?m)^ExecStart=[@\-:+!|]*(\S.*)$")
_OTHERS = ("scopekeeper", "openclaw-gateway")
"""Units that are ours, or have a step of their own."""
_WHY = "its scopes end with it"


class Gateways:
    """Adds a drop-in to each service that is a gateway."""

    name = "gateways"

    def find(self, machine: Machine) -> list[Found]:
        """Return a finding for each gateway among the services of this user's manager."""
        found = [
            Found(
                self.name, "gateway", Need.HAND, each.detail, command=each.fix,
            )
            for each in parts.gateways(Caller())
        ]  # fmt: skip
        if not machine.has_systemd():
            return found
        places = machine.places()
        for unit in sorted(_gateways(places)):
            path = places.drop_in(unit)
            if os.path.lexists(path):
                detail = "its scopes end with it"
                found.append(Found(self.name, unit, Need.NOTHING, detail, target=path))
                continue
            found.append(Found(
                self.name, unit, Need.CHANGE, "its scopes may outlive it",
                will="add a drop-in to its unit", why=_WHY,
                command=f"scopekeeper install --gateway {unit}", target=path,
                facts={"unit": [unit], "folders": missing_folders([path])},
            ))  # fmt: skip
        return found

    def do(self, machine: Machine, found: Found) -> Outcome:
        """Write the drop-in of a gateway."""
        (unit,) = found.facts["unit"]
        manager, places = machine.systemctl(), machine.places()
        program = machine.launcher()[1]
        actions = [
            each
            for each in drop_ins(manager, places, program, unit, shell=False)
            if each.path == found.target
        ]
        changed = [each.piece for each in actions if each.step is FileStep.WRITE]
        talk = Talk(then=reloads(changed, manager), again=reloads(changed, manager))
        change = Applied()
        plan_of(actions, change)
        carry_out(actions, talk, manager, change)
        done = Outcome([f"{path}: written" for path in change.written], change.warnings)
        lacks = gateway_report.missing(gateway_report.look_at(manager, unit), program,
                                       machine.option)  # fmt: skip
        done.warnings += [lacks] if lacks else []
        done.restart += _restart(manager, unit, machine.option)
        return done

    def undo(self, machine: Machine, target: str, facts: Facts, *, dry_run: bool) -> Outcome:
        """Remove the drop-in, unless it was edited."""
        (unit,) = facts["unit"]
        manager = machine.systemctl()
        part = Part(frozenset([target]), frozenset(facts["folders"]))
        change = uninstall(manager, machine.places(), {}, unit, only=part, dry_run=dry_run)
        undone = Outcome([f"{path}: removed" for path in change.removed])
        undone.left += change.warnings
        if not (change.removed or change.warnings):
            undone.left.append(f"{target} is gone")
        undone.restart += _restart(manager, unit, machine.option)
        return undone


def _gateways(places: Locations) -> Iterator[str]:
    """Yield the services in a manager's own folder that are gateways."""
    try:
        names = os.listdir(places.units)
    except OSError:
        return
    for name in names:
        if name.endswith(".service") and "@." not in name and not name.startswith(_OTHERS):
            folder = f"{places.units}/{name}.d"
            try:
                extra = [f"{folder}/{each}" for each in sorted(os.listdir(folder))
                         if each.endswith(".conf") and each != shipped.DROP_IN]  # fmt: skip
            except OSError:
                extra = []
            if any(_is_gateway(_read(path)) for path in (f"{places.units}/{name}", *extra)):
                yield name


def _read(path: str) -> str:
    try:
        text = regular_files.read(path, follow=True).decode(errors="replace")
    except OSError:
        return ""
    return text.replace("\\\n", " ")


def _is_gateway(text: str) -> bool:
    """Return whether a unit's text starts scopekeeper, or a client of MCP servers. Pure."""
    for line in _EXEC_START.findall(text):
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        if not words:
            continue
        if os.path.basename(words[0]) == PROGRAM and words[1:2] == ["run"]:
            return True
        if client_of(words):
            return True
    return False


def _restart(manager: Systemctl, unit: str, option: str) -> list[str]:
    """Return how to restart a service if it runs."""
    try:
        pid = manager.property_of_service(unit, "MainPID")
    except ScopekeeperError:
        return []
    return [f"{unit} (pid {pid}): systemctl{option} restart {unit}"] if pid not in ("", "0") else []
