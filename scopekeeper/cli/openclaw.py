"""``scopekeeper openclaw``."""

import contextlib
import os
from collections.abc import Sequence

import click

from scopekeeper.cli.documents import texts
from scopekeeper.cli.examples import examples
from scopekeeper.cli.group import Group
from scopekeeper.cli.install import print_change
from scopekeeper.cli.openclaw_rewrap import rewrap_command
from scopekeeper.cli.openclaw_status import (
    GATEWAY_OPTIONS,
    configuration_of,
    server_document,
    status_command,
)
from scopekeeper.cli.show import answer, safe, safe_json, warn
from scopekeeper.errors import ConfigError, ScopekeeperError
from scopekeeper.install.apply import Applied
from scopekeeper.install.install import install as install_units
from scopekeeper.install.install import places_of
from scopekeeper.mcp_configs.program import installed
from scopekeeper.mcp_configs.wrap import Launcher
from scopekeeper.openclaw import configuration, locations
from scopekeeper.openclaw.install import (
    GatewayChange,
    install,
    restart_time,
    uninstall,
)
from scopekeeper.quantities import show_duration
from scopekeeper.safe_text import safe_lines
from scopekeeper.systemd.systemctl import Systemctl

_NO_PACKAGE = (
    "OpenClaw was not found: version 2026.9 and later reports the end of runs to the plugin only "
    "if the configuration allows it; run this again with openclaw in PATH"
)
_PROVENANCE = (
    'OpenClaw may warn that scopekeeper was "loaded without install/load-path provenance": this '
    "command wrote the plugin, not `openclaw plugins install`. Nothing is wrong."
)


@click.group(
    "openclaw",
    cls=Group,
    epilog=examples("scopekeeper openclaw install", "scopekeeper openclaw status"),
)
def command() -> None:
    """Contain OpenClaw's gateway, and show what is contained."""


command.add_command(status_command)
command.add_command(rewrap_command)


@command.command(
    "install",
    params=[*GATEWAY_OPTIONS],
    epilog=examples("scopekeeper openclaw install", "scopekeeper openclaw install --no-keeper"),
)
@click.option("--force", is_flag=True, help="Also replace an edited plugin and drop-in; never "
              "files that scopekeeper did not write.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only print what would be written, removed and "
              "run.")  # fmt: skip
@click.option("--no-keeper", is_flag=True, help="Do not run `scopekeeper install`.")
def install_command(
    profile: str, config: str, as_json: bool, force: bool, dry_run: bool, no_keeper: bool
) -> None:
    """Contain a gateway from its next start on.

    Puts `scopekeeper run` before the command of every MCP server, as `wrap` does; installs a plugin
    that passes on the session of each server and reports the end of sessions; installs a drop-in
    for the user's unit that sets SHELL to scopekeeper-shell; and installs the keeper, as
    `scopekeeper install` does. Run it again after an update of OpenClaw or scopekeeper. An edited
    plugin or drop-in stays. Exit status: 0 done; 1 something was refused, and nothing was changed.
    """
    where = locations.find(os.environ, profile=profile, config=config)
    package = locations.package(where, os.environ)
    launcher = Launcher(*installed(), ("--real-shell",))
    change = install(where, launcher, package, force=force, dry_run=dry_run)
    if package is None:
        change.warnings.append(_NO_PACKAGE)
    left = configuration.not_wrapped(change.servers)
    change.warnings += [f"server {each.name} is not contained: {each.detail}" for each in left]
    with contextlib.suppress(ConfigError):
        if blocked := configuration_of(where).blocked:
            change.warnings.append(f"OpenClaw will not load the plugin: {blocked}")
    keeper = None if no_keeper else _install_keeper(change.warnings, dry_run=dry_run)
    notes = [_PROVENANCE] if where.plugin in change.done else []
    _report(change, where, "To start it contained", keeper, notes=notes, dry_run=dry_run,
            as_json=as_json)  # fmt: skip


@command.command(
    "uninstall", params=[*GATEWAY_OPTIONS], epilog=examples("scopekeeper openclaw uninstall")
)
@click.option("--force", is_flag=True, help="Also remove an edited plugin and drop-in; never "
              "files that scopekeeper did not write.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only print what would be written, removed and "
              "run.")  # fmt: skip
def uninstall_command(profile: str, config: str, as_json: bool, force: bool, dry_run: bool) -> None:
    """Undo `openclaw install`.

    Restores the configuration to the byte, except for what was edited since. Running scopes go on
    until the gateway restarts. The keeper stays, since others may need it; `scopekeeper uninstall`
    removes it. Exit status: 0 done; 1 something was refused.
    """
    where = locations.find(os.environ, profile=profile, config=config)
    change = uninstall(where, force=force, dry_run=dry_run)
    _report(change, where, "To start it as before", dry_run=dry_run, as_json=as_json)


def _install_keeper(warnings: list[str], *, dry_run: bool) -> Applied | None:
    """Run ``scopekeeper install`` for the user; a failure is a warning, the gateway needs none."""
    if os.geteuid() == 0:
        warnings.append("the keeper was not installed: for root, run `scopekeeper install`")
        return None
    try:
        where = places_of("user", os.environ)
        manager = Systemctl(where.manager, where.units)
        return install_units(manager, where, installed()[1], texts(), dry_run=dry_run)
    except ScopekeeperError as error:
        warnings.append(f"the keeper was not installed: {error}")
        return None


def _report(
    change: GatewayChange,
    where: locations.GatewayPaths,
    purpose: str,
    keeper: Applied | None = None,
    *,
    notes: Sequence[str] = (),
    dry_run: bool,
    as_json: bool,
) -> None:
    """Print what was done, or would be done; purpose is what a restart is for."""
    keeper = keeper or Applied()
    change.warnings += keeper.warnings
    has_unit = os.path.exists(where.unit_file)
    notes = [*([_restart_note(where)] if has_unit and change.done else []), *notes]
    if as_json:
        answer({
            "dry_run": dry_run,
            "changed": [safe_json(path) for path in change.done],
            "diff": safe_json(change.diff) or None,
            "keeper": {
                "written": [safe_json(path) for path in keeper.written],
                "removed": [safe_json(path) for path in keeper.removed],
                "ran": [safe_json(line) for line in keeper.ran],
            },
            "backup": safe_json(change.backup) or None,
            "servers": [server_document(each) for each in change.servers],
            "notes": [safe_json(text) for text in notes],
            "warnings": [safe_json(text) for text in change.warnings],
        })  # fmt: skip
        return
    would = "would be " if dry_run else ""
    for path in change.done:
        click.echo(safe(f"{path}: {would}{change.verbs[path]}"))
    if change.backup:
        click.echo(safe(f"{change.backup}: holds {where.config} as it was before"))
    if dry_run:
        click.echo(safe_lines(change.diff), nl=False)
    print_change(keeper, dry_run=dry_run)
    warn(change.warnings)
    if change.done:
        click.echo(f"{purpose}: systemctl --user restart {safe(where.unit)}")
        for text in notes:
            click.echo(safe(text))
    elif keeper.is_nothing:
        click.echo("Nothing to change.")


def _restart_note(where: locations.GatewayPaths) -> str:
    """Return how long a restart of the gateway may take."""
    seconds = restart_time(where)
    limit = "some minutes" if seconds is None else f"up to {show_duration(seconds)}"
    return f"The restart may take {limit}: OpenClaw first waits for what its sessions run."
