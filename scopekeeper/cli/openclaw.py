"""``scopekeeper openclaw``."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict

import click

from scopekeeper.cli.documents import texts
from scopekeeper.cli.examples import examples
from scopekeeper.cli.group import Group
from scopekeeper.cli.install import print_change
from scopekeeper.cli.show import answer, safe, safe_json, table, warn
from scopekeeper.doctor.parts import gateways as unbound_gateways
from scopekeeper.errors import ConfigError, ScopekeeperError
from scopekeeper.install.apply import Applied
from scopekeeper.install.install import install as install_units
from scopekeeper.install.install import places_of
from scopekeeper.kernel.proc import mount_point
from scopekeeper.mcp_clients import files
from scopekeeper.mcp_clients.program import installed
from scopekeeper.mcp_clients.wrap import Launcher, WrapOutcome
from scopekeeper.openclaw import configuration, files_installed, locations, running, status
from scopekeeper.openclaw.install import (
    GatewayChange,
    entry_for,
    install,
    kill_mode,
    located,
    uninstall,
)
from scopekeeper.openclaw.status import Containment, GatewayFinding
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd.systemctl import Systemctl

_NO_PACKAGE = (
    "OpenClaw was not found: version 2026.9 and later reports the end of runs to the plugin only "
    "if the configuration allows it; run this again with openclaw in PATH"
)
_GATEWAY_OPTIONS: list[click.Parameter] = [
    click.Option(["--profile"], metavar="NAME", default="", help="The OpenClaw profile. Default: "
                 "$OPENCLAW_PROFILE."),
    click.Option(["--config"], metavar="FILE", default="", help="The OpenClaw configuration. "
                 "Default: where OpenClaw looks for it."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print one versioned JSON object."),
]  # fmt: skip


@click.group(
    "openclaw",
    cls=Group,
    epilog=examples("scopekeeper openclaw install", "scopekeeper openclaw status"),
)
def command() -> None:
    """Contain OpenClaw's gateway, and show what is contained."""


@command.command(
    "install",
    params=[*_GATEWAY_OPTIONS],
    epilog=examples("scopekeeper openclaw install", "scopekeeper openclaw install --no-keeper"),
)
@click.option("--force", is_flag=True, help="Also replace an edited plugin and drop-in; never "
              "files that scopekeeper did not write.")  # fmt: skip
@click.option("--no-keeper", is_flag=True, help="Do not run `scopekeeper install`.")
def install_command(profile: str, config: str, as_json: bool, force: bool, no_keeper: bool) -> None:
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
    change = install(where, launcher, package, force=force)
    if package is None:
        change.warnings.append(_NO_PACKAGE)
    left = configuration.not_wrapped(change.servers)
    change.warnings += [f"server {each.name} is not contained: {each.detail}" for each in left]
    with contextlib.suppress(ConfigError):
        if blocked := _configuration(where).blocked:
            change.warnings.append(f"OpenClaw will not load the plugin: {blocked}")
    keeper = None if no_keeper else _install_keeper(change.warnings)
    _report(change, where, "To start it contained", keeper, as_json=as_json)


@command.command(
    "uninstall", params=[*_GATEWAY_OPTIONS], epilog=examples("scopekeeper openclaw uninstall")
)
@click.option("--force", is_flag=True, help="Also remove an edited plugin and drop-in; never "
              "files that scopekeeper did not write.")  # fmt: skip
def uninstall_command(profile: str, config: str, as_json: bool, force: bool) -> None:
    """Undo `openclaw install`.

    Restores the configuration to the byte, except for what was edited since. Running scopes go on
    until the gateway restarts. The keeper stays, since others may need it; `scopekeeper uninstall`
    removes it. Exit status: 0 done; 1 something was refused.
    """
    where = locations.find(os.environ, profile=profile, config=config)
    _report(uninstall(where, force=force), where, "To start it as before", as_json=as_json)


def _install_keeper(warnings: list[str]) -> Applied | None:
    """Run ``scopekeeper install`` for the user; a failure is a warning, the gateway needs none."""
    if os.geteuid() == 0:
        warnings.append("the keeper was not installed: for root, run `scopekeeper install`")
        return None
    try:
        where = places_of("user", os.environ)
        manager = Systemctl(where.manager, where.units)
        return install_units(manager, where, installed()[1], texts())
    except ScopekeeperError as error:
        warnings.append(f"the keeper was not installed: {error}")
        return None


def _report(
    change: GatewayChange,
    where: locations.GatewayPaths,
    purpose: str,
    keeper: Applied | None = None,
    *,
    as_json: bool,
) -> None:
    keeper = keeper or Applied()
    change.warnings += keeper.warnings
    if as_json:
        answer({
            "changed": [safe_json(path) for path in change.done],
            "keeper": {
                "written": [safe_json(path) for path in keeper.written],
                "removed": [safe_json(path) for path in keeper.removed],
                "ran": [safe_json(line) for line in keeper.ran],
            },
            "backup": safe_json(change.backup) or None,
            "servers": [_server(each) for each in change.servers],
            "warnings": [safe_json(text) for text in change.warnings],
        })  # fmt: skip
        return
    for path in change.done:
        click.echo(safe(path if os.path.lexists(path) else f"{path}: removed"))
    if change.backup:
        click.echo(safe(f"{where.config}: backup: {change.backup}"))
    print_change(keeper, dry_run=False)
    warn(change.warnings)
    if change.done:
        click.echo(f"{purpose}: systemctl --user restart {safe(where.unit)}")
    elif keeper.is_nothing:
        click.echo("Nothing to change.")


def _server(outcome: WrapOutcome) -> dict[str, object]:
    return {"name": outcome.name, "state": outcome.state.value, "detail": outcome.detail or None}


@command.command(
    "status",
    params=[*_GATEWAY_OPTIONS],
    epilog=examples("scopekeeper openclaw status", "scopekeeper openclaw status --json"),
)
def status_command(profile: str, config: str, as_json: bool) -> None:
    """Show for each agent and session what is contained, what is not, and why.

    Exit status: 0 everything is contained; 1 something is not.
    """
    where = locations.find(os.environ, profile=profile, config=config)
    package = locations.package(where, os.environ)
    launcher = Launcher(*installed())
    found = _configuration(where)
    planned = files_installed.plan_drop_in(where, launcher.absolute)
    drop_in = files_installed.state_of([planned])
    findings = [
        status.of_servers(found),
        status.of_plugin(_state_of_plugin(where), found, entry_for(launcher, package)),
        status.of_drop_in(
            drop_in, where.unit, kill_mode(where), has_unit=os.path.exists(where.unit_file)
        ),
    ]  # fmt: skip
    gateways = running.running(where, package)
    for each in gateways:
        installed_now = os.path.lexists(where.plugin)
        findings += status.of_gateway(each, _changed(where), installed=installed_now)
    if not gateways:
        findings.append(GatewayFinding("gateway", Containment.OK, "none runs"))
    findings += [
        GatewayFinding(each.check, Containment.LACKS, f"{each.detail}: {each.fix}")
        for each in unbound_gateways(Caller())
    ]
    scopes = Reader(mount_point()).snapshot(uid=os.getuid()).scopes
    sessions = status.sessions(scopes, gateways, found.bare)
    if as_json:
        answer({
            "parts": [{key: safe_json(str(value)) for key, value in asdict(each).items()}
                      for each in findings],
            "sessions": [{**asdict(each), "detail": safe_json(each.detail)} for each in sessions],
            "servers": [_server(each) for each in found.servers],
        })  # fmt: skip
    else:
        _print(findings, sessions)
        warn(found.notes)
    fine = all(each.verdict is Containment.OK for each in findings) and all(
        s.unit for s in sessions
    )
    raise SystemExit(0 if fine else 1)


def _state_of_plugin(where: locations.GatewayPaths) -> files_installed.FileState:
    try:
        return files_installed.state_of(files_installed.plan_plugin(where))
    except ConfigError:
        return files_installed.FileState.KEPT


def _configuration(where: locations.GatewayPaths) -> configuration.Found:
    text = files.read(where.config).text()
    with located(where):
        return configuration.look_at(text)


def _changed(where: locations.GatewayPaths) -> float:
    """Return when the files that a gateway reads at its start were last installed."""
    times = []
    for path in (where.drop_in, where.plugin):
        with contextlib.suppress(OSError):
            times.append(os.stat(path).st_mtime)
    return max(times, default=0.0)


def _print(findings: Sequence[GatewayFinding], sessions: Sequence[status.Session]) -> None:
    table(("PART", "STATE", "DETAIL"), [(f.part, f.verdict.value, f.detail) for f in findings],
          shrink=(2,))  # fmt: skip
    if not sessions:
        return
    click.echo()
    rows = [
        (s.agent, s.session, s.lane, s.state, str(s.members), str(s.processes), s.detail)
        for s in sessions
    ]
    table(("AGENT", "SESSION", "LANE", "STATE", "MEMBERS", "PROCS", "WHAT"), rows,
          shrink=(1, 6), right=(4, 5))  # fmt: skip
