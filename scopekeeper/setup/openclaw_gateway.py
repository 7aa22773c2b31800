"""The step that contains OpenClaw's gateway, as ``openclaw install`` does."""

import os

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import backups, files
from scopekeeper.mcp_configs.servers import ServerState
from scopekeeper.mcp_configs.wrap import Launcher
from scopekeeper.openclaw import configuration, locations, running
from scopekeeper.openclaw.install import install, located, uninstall
from scopekeeper.openclaw.locations import GatewayPaths
from scopekeeper.setup.step import Facts, Found, Machine, Need, Outcome, gone
from scopekeeper.setup.writable import why_not, why_not_replaced

_WHY = "Each session of OpenClaw ends as a whole."
_BY_HAND = "scopekeeper openclaw install"
_NO_PACKAGE = "OpenClaw was not found in PATH: run `scopekeeper openclaw install` where it is"


class OpenClawGateway:
    """Contains the gateway of this user's profile."""

    name = "openclaw"

    def find(self, machine: Machine) -> list[Found]:
        """Return a finding if this user has a configuration of OpenClaw."""
        where = locations.find(machine.environment)
        if not os.path.exists(where.config):
            return []
        change = install(
            where, _launcher(machine), locations.package(where, machine.environment), dry_run=True
        )
        if not change.done:
            return [Found(self.name, "OpenClaw", Need.NOTHING, "installed", target=where.config)]
        refused = why_not_replaced(where.config)[0] if where.config in change.done else ""
        refused = refused or why_not(each for each in change.done if each != where.config)
        if refused:
            return [Found(self.name, "OpenClaw", Need.HAND, f"not contained: {refused}",
                          command=_BY_HAND, target=where.config)]  # fmt: skip
        bare = sum(each.changed for each in change.servers)
        parts = [f"wrap {bare} server{'' if bare == 1 else 's'}"] if bare else []
        parts += ["add its plugin"] if where.plugin in change.done else []
        parts += ["a drop-in"] if where.drop_in in change.done else []
        return [
            Found(
                self.name, "OpenClaw", Need.CHANGE, "not contained",
                will=", ".join(parts) or "change its configuration",
                where=machine.short(where.config), why=_WHY,
                command=_BY_HAND, target=where.config, facts=_facts(where),
            )
        ]  # fmt: skip

    def do(self, machine: Machine, _found: Found) -> Outcome:
        """Contain it from its next start on."""
        where = locations.find(machine.environment)
        package = locations.package(where, machine.environment)
        change = install(where, _launcher(machine), package)
        done = Outcome([f"{machine.short(path)}: {change.verbs[path]}" for path in change.done])
        done.has_backup = bool(change.backup)
        if change.backup and change.backup != os.path.realpath(where.config) + backups.SUFFIX:
            done.lines.append(f"{change.backup}: holds {machine.short(where.config)} as it was")
        done.warnings += change.warnings
        done.warnings += [_NO_PACKAGE] if package is None else []
        done.warnings += [f"server {each.name} is not contained: {each.detail}"
                          for each in configuration.not_wrapped(change.servers)]  # fmt: skip
        done.restart += _restarts(where)
        return done

    def undo(self, machine: Machine, _target: str, facts: Facts, *, dry_run: bool) -> Outcome:
        """Take all of it back, unless a part was there before."""
        undone = Outcome()
        where = GatewayPaths(*facts["paths"])
        if facts["before"]:
            undone.left.append(
                f"OpenClaw: {', '.join(facts['before'])} were there before setup, so that all of "
                "it stays; to take it away: scopekeeper openclaw uninstall"
            )
            return undone
        if not os.path.lexists(where.config):
            short = machine.short(where.config)
            undone.left.append(gone(short, "scopekeeper openclaw uninstall"))
        change = uninstall(where, dry_run=dry_run)
        undone.lines += [f"{machine.short(path)}: {change.verbs[path]}" for path in change.done]
        undone.left += change.warnings
        undone.restart += _restarts(where)
        return undone


def _launcher(machine: Machine) -> Launcher:
    return Launcher(*machine.launcher(), ("--real-shell",))


def _facts(where: GatewayPaths) -> Facts:
    text = files.read(where.config).text()
    with located(where):
        found = configuration.look_at(text)
    before = ["wrapped servers"] * any(each.state is ServerState.WRAPPED for each in found.servers)
    before += ["the plugin"] * (found.entry is not None or os.path.lexists(where.plugin))
    before += ["the drop-in"] * os.path.lexists(where.drop_in)
    paths = [where.config, where.plugin, where.unit, where.unit_file, where.drop_in]
    return {"paths": paths, "before": before}


def _restarts(where: GatewayPaths) -> list[str]:
    """Return how to restart each gateway that runs."""
    try:
        gateways = running.running(where, None)
    except ConfigError:
        return []
    return [
        f"OpenClaw (pid {each.pid}): "
        + (f"systemctl --user restart {each.unit}" if each.unit else "end it, and start it again")
        for each in gateways
    ]
