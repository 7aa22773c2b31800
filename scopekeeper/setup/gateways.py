"""The step for gateways that are services: a drop-in has their scopes end with them.

A gateway is known by its ``ExecStart=``: it runs ``scopekeeper run``, or a client of MCP servers.
Else by what it owns in scopes. One that no table knows is named if MCP servers run in it, outside
of every scope.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping

from scopekeeper.doctor import parts
from scopekeeper.errors import ScopekeeperError
from scopekeeper.install import gateway_report
from scopekeeper.install.apply import Applied, Talk, carry_out, plan_of, reloads
from scopekeeper.install.gateway_drop_in import drop_ins
from scopekeeper.install.locations import UNIT_FOLDERS
from scopekeeper.install.plan import FileStep
from scopekeeper.install.shipped import DROP_IN, quoted
from scopekeeper.install.uninstall import Part, uninstall
from scopekeeper.kernel import proc
from scopekeeper.kernel.usage import command_line
from scopekeeper.mcp_configs.running import client_of
from scopekeeper.scope.placement import Caller
from scopekeeper.setup import restarts, running_now, unit_files
from scopekeeper.setup.exec_start import commands, gateway_of, in_scope, is_run
from scopekeeper.setup.keeper import missing_folders
from scopekeeper.setup.servers_outside import NO_GATEWAYS, Outside, servers_outside
from scopekeeper.setup.step import Facts, Found, Machine, Need, Outcome
from scopekeeper.setup.writable import why_not
from scopekeeper.systemd.lingering import user_name
from scopekeeper.systemd.systemctl import Systemctl

_OTHERS = ("scopekeeper", "openclaw-gateway")
"""Units that are ours, or have a step of their own."""
_WHY = "With a drop-in, the scopes of a service end with it."
_BOUND = "its scopes end with it"
_PLACED = "SCOPEKEEPER_PLACEMENT"
"""The variable that puts scopes elsewhere."""


class Gateways:
    """Adds a drop-in to each service that is a gateway."""

    name = "gateways"

    def find(self, machine: Machine) -> list[Found]:
        """Return a finding for each gateway among the services of this user's manager.

        And for each of the system's that runs as this user, and each in which servers run outside.
        """
        of_system = list(parts.gateways(Caller()))
        found = [
            Found(
                self.name, "gateway", Need.HAND, each.detail, command=each.fix,
            )
            for each in of_system
        ]  # fmt: skip
        if not machine.has_systemd():
            return found
        kind = machine.manager
        texts = unit_files.services(_folders(kind))
        living = {unit: inside for unit, inside in _living(kind).items() if unit in texts}
        units = {*gateways(_folders(kind)), *_of_running_clients(kind), *living}
        found += [self._own(machine, unit, is_inside(texts.get(unit, ""), living.get(unit)))
                  for unit in sorted(units)]  # fmt: skip
        if machine.manager == "user":
            named = " ".join(each.detail for each in of_system)
            found += [each for each in self._of_system() if f"{each.what} " not in f"{named} "]
        found += [self._outside(machine, each) for each in servers_outside()]
        return found

    def _own(self, machine: Machine, unit: str, inside: bool) -> Found:
        """Return the finding for a gateway of this user's manager."""
        path = machine.places().drop_in(unit)
        command = f"scopekeeper install --gateway {unit}"
        if inside or os.path.lexists(path):
            return Found(self.name, unit, Need.NOTHING, _BOUND, target=path)
        if refused := why_not([path]):
            detail = f"its scopes may outlive it, and no drop-in can be written: {refused}"
            return Found(self.name, unit, Need.HAND, detail, command=command, target=path)
        return Found(
            self.name, unit, Need.CHANGE, "its scopes may outlive it",
            will="add a drop-in", where=machine.short(path), why=_WHY,
            command=command, target=path,
            facts={"unit": [unit], "folders": missing_folders([path])},
        )  # fmt: skip

    def _of_system(self) -> Iterator[Found]:
        """Yield gateways of the system's manager that run as this user: only root changes these."""
        own = (user_name(os.getuid()), str(os.getuid()))
        for unit, text in gateways(_folders("system")).items():
            if unit_files.value(text, "User") not in own:
                continue
            is_bound = any(os.path.exists(f"{folder}/{unit}.d/{DROP_IN}")
                           for folder in UNIT_FOLDERS["system"])  # fmt: skip
            if is_bound or unit_files.delegates(text):
                yield Found(self.name, unit, Need.NOTHING, _BOUND)
                continue
            yield Found(
                self.name, unit, Need.HAND, "a service of the system: its scopes may outlive it",
                command=f"sudo scopekeeper install --system --gateway {unit}",
            )  # fmt: skip

    def _outside(self, machine: Machine, each: Outside) -> Found:
        """Return the finding for a service in which MCP servers run in no scope."""
        number = "1 MCP server runs" if each.servers == 1 else f"{each.servers} MCP servers run"
        edit = f"systemctl{' --user' if each.kind == 'user' else ''} edit --full {each.unit}"
        sudo = "sudo " if each.kind == "system" and os.geteuid() else ""
        text = unit_files.services(_folders(each.kind)).get(each.unit, "")
        start = in_scope(text, quoted(machine.launcher()[1]))
        return Found(
            self.name, each.unit, Need.HAND, f"{number} in no scope",
            why=f"to contain all of it, set Delegate=yes and ExecStart={start}",
            command=f"{sudo}{edit} && {restarts.restart(each.unit, each.kind)}",
        )  # fmt: skip

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
        done = Outcome(
            [f"{machine.short(path)}: written" for path in change.written], change.warnings
        )
        lacks = gateway_report.missing(gateway_report.look_at(manager, unit), program,
                                       machine.option)  # fmt: skip
        done.warnings += [lacks] if lacks else []
        done.restart += _restart(manager, unit)
        return done

    def undo(self, machine: Machine, target: str, facts: Facts, *, dry_run: bool) -> Outcome:
        """Remove the drop-in, unless it was edited."""
        (unit,) = facts["unit"]
        manager = machine.systemctl()
        part = Part(frozenset([target]), frozenset(facts["folders"]))
        change = uninstall(manager, machine.places(), {}, unit, only=part, dry_run=dry_run)
        undone = Outcome([f"{machine.short(path)}: removed" for path in change.removed])
        undone.left += change.warnings
        if not (change.removed or change.warnings):
            undone.left.append(f"{target} is gone")
        undone.restart += _restart(manager, unit)
        return undone


def gateways(folders: list[str]) -> dict[str, str]:
    """Return the text of each service in these folders that is a gateway, by its name."""
    return {
        unit: text
        for unit, text in sorted(unit_files.services(folders).items())
        if not unit.startswith(_OTHERS)
        and any(gateway_of(each) for each in commands(text))
        and not _is_alias(unit, folders)
    }


def is_inside(text: str, living: bool | None) -> bool:
    """Return whether the scopes of a service lie in its own cgroup, and so end with it. Pure.

    living is whether all that live now do, None if none lives.
    """
    if not unit_files.delegates(text):
        return False
    if living is not None:
        return living
    words = commands(text)
    return _PLACED not in text and bool(words) and all(is_run(each) for each in words)


def _living(kind: str) -> Mapping[str, bool]:
    """Return the services of a manager that own what lives in scopes, as ``of_services`` does."""
    with contextlib.suppress(LookupError):  # no cgroup2
        return {
            unit: inside
            for unit, inside in running_now.of_services(kind).items()
            if not unit.startswith((*_OTHERS, *NO_GATEWAYS))
        }
    return {}


def _of_running_clients(kind: str) -> Iterator[str]:
    """Yield the services of a manager that became a client, as by a script in ``ExecStart=``.

    Not those without a file, which are gone after their end: a program that the desktop started.
    """
    known = None
    for pid in proc.pids():
        unit, of = restarts.service_of(pid) if _is_client_of_ours(pid) else ("", "")
        if of == kind and unit and not unit.startswith(_OTHERS) and "@" not in unit:
            known = known or unit_files.services(_folders(kind))
            if unit in known:
                yield unit


def _is_client_of_ours(pid: int) -> bool:
    """Return whether a process is a client of this user."""
    try:
        is_ours = os.stat(f"/proc/{pid}").st_uid == os.getuid()
    except OSError:
        return False
    return is_ours and bool(client_of(command_line(pid) or []))


def _folders(kind: str) -> list[str]:
    return [os.path.expanduser(folder) for folder in UNIT_FOLDERS[kind]]


def _is_alias(unit: str, folders: list[str]) -> bool:
    """Return whether a service is a link to one of another name."""
    path = next((f"{each}/{unit}" for each in folders if os.path.lexists(f"{each}/{unit}")), unit)
    return os.path.basename(os.path.realpath(path)) != unit


def _restart(manager: Systemctl, unit: str) -> list[str]:
    """Return how to restart a service if it runs."""
    try:
        pid = manager.property_of_service(unit, "MainPID")
    except ScopekeeperError:
        return []
    if pid in ("", "0"):
        return []
    return [restarts.line_of(unit, manager.kind, pid)]
