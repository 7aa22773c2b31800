"""``scopekeeper openclaw``."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict

import click

from scopekeeper.cli.documents import texts
from scopekeeper.cli.group import Group
from scopekeeper.cli.install import show
from scopekeeper.cli.show import answer, safe, safe_json, table, warn
from scopekeeper.errors import ConfigError, ScopekeeperError
from scopekeeper.install import apply as keeping
from scopekeeper.install.install import install as install_units
from scopekeeper.install.install import places_of
from scopekeeper.install.systemctl import Systemctl
from scopekeeper.kernel.proc import mount_point
from scopekeeper.mcp_clients import files
from scopekeeper.mcp_clients.program import installed
from scopekeeper.mcp_clients.wrap import Launcher, WrapOutcome
from scopekeeper.openclaw import configuration, files_installed, locations, running, status
from scopekeeper.openclaw.install import GatewayChange, entry_for, install, located, uninstall
from scopekeeper.openclaw.status import Containment, GatewayFinding
from scopekeeper.scope.snapshot import Reader

_NO_PACKAGE = (
    "no OpenClaw was found: where it is 2026.9 or later, it has to be allowed to tell the plugin "
    "of the end of runs; call this again with openclaw in PATH"
)
_CHOOSING: list[click.Parameter] = [
    click.Option(["--profile"], metavar="NAME", default="", help="The profile of OpenClaw that is "
                 "meant. Default: $OPENCLAW_PROFILE."),
    click.Option(["--config"], metavar="FILE", default="", help="Its configuration. Default: "
                 "where OpenClaw looks for it."),
    click.Option(["--json", "as_json"], is_flag=True, help="One versioned JSON object."),
]  # fmt: skip


@click.group("openclaw", cls=Group)
def command() -> None:
    """Contain OpenClaw's gateway, and see what it contains."""


@command.command("install", params=[*_CHOOSING])
@click.option("--force", is_flag=True, help="Replace what was edited of the plugin and the "
              "drop-in; what somebody else wrote stays.")  # fmt: skip
@click.option("--no-keeper", is_flag=True, help="Only what is the gateway's own, and not what "
              "`scopekeeper install` does.")  # fmt: skip
def install_command(profile: str, config: str, as_json: bool, force: bool, no_keeper: bool) -> None:
    """Contain a gateway from its next start on.

    Every MCP server goes through `scopekeeper run` (as `wrap` does it), a plugin tells which
    session each is of and when that is over, and a drop-in for the user's unit gives the gateway
    our shell. Then the user's manager is told of the keeper, as by `scopekeeper install`. Can be
    called again, after an update of either. What was edited of the plugin or the drop-in stays.
    Exit status: 0 done; 1 something was refused, and nothing is changed then.
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
        if blocked := _seen(where).blocked:
            change.warnings.append(f"OpenClaw will not load the plugin: {blocked}")
    keeper = None if no_keeper else _install_keeper(change.warnings)
    _tell(change, where, "Contained from the next start on", keeper, as_json=as_json)


@command.command("uninstall", params=[*_CHOOSING])
@click.option("--force", is_flag=True, help="Remove what was edited of the plugin and the "
              "drop-in; what somebody else wrote stays.")  # fmt: skip
def uninstall_command(profile: str, config: str, as_json: bool, force: bool) -> None:
    """Undo install, to the byte where nothing else was changed since; what was, stays.

    What runs in scopes goes on until its gateway is restarted. The keeper stays, since others may
    need it: `scopekeeper uninstall` removes it. Exit status: 0 done; 1 something was refused.
    """
    where = locations.find(os.environ, profile=profile, config=config)
    _tell(uninstall(where, force=force), where, "As before from the next start on", as_json=as_json)


def _install_keeper(warnings: list[str]) -> keeping.Applied | None:
    """Do what `scopekeeper install` does for the user; a gateway is contained without that too."""
    if os.geteuid() == 0:
        warnings.append("the keeper is not installed: root's is for the system")
        return None
    try:
        where = places_of("user", os.environ)
        return install_units(Systemctl(where), where, installed()[1], texts())
    except ScopekeeperError as error:
        warnings.append(f"the keeper is not installed: {error}")
        return None


def _tell(
    change: GatewayChange,
    where: locations.GatewayPaths,
    then: str,
    keeper: keeping.Applied | None = None,
    *,
    as_json: bool,
) -> None:
    kept = keeper or keeping.Applied()
    change.warnings += kept.warnings
    if as_json:
        answer({
            "changed": [safe_json(path) for path in change.done],
            "keeper": {
                "written": [safe_json(path) for path in kept.written],
                "removed": [safe_json(path) for path in kept.removed],
                "ran": [safe_json(line) for line in kept.ran],
            },
            "backup": safe_json(change.backup) or None,
            "servers": [_server(each) for each in change.servers],
            "warnings": [safe_json(text) for text in change.warnings],
        })  # fmt: skip
        return
    for path in change.done:
        click.echo(safe(path if os.path.lexists(path) else f"{path}: removed"))
    if change.backup:
        click.echo(safe(f"{where.config}: as it was: {change.backup}"))
    show(kept, dry_run=False)
    warn(change.warnings)
    if change.done:
        click.echo(f"{then}: systemctl --user restart {safe(where.unit)}")
    elif kept.is_nothing:
        click.echo("Nothing to change.")


def _server(outcome: WrapOutcome) -> dict[str, object]:
    return {"name": outcome.name, "state": outcome.state.value, "detail": outcome.detail or None}


@command.command("status", params=[*_CHOOSING])
def status_command(profile: str, config: str, as_json: bool) -> None:
    """Say what is contained, what is not, and why, for each agent and session.

    Exit status: 0 everything is; 1 something is not.
    """
    where = locations.find(os.environ, profile=profile, config=config)
    package = locations.package(where, os.environ)
    launcher = Launcher(*installed())
    seen = _seen(where)
    planned = files_installed.plan_drop_in(where, launcher.absolute)
    drop_in = files_installed.state_of([planned])
    findings = [
        status.of_servers(seen),
        status.of_plugin(_state_of_plugin(where), seen, entry_for(launcher, package)),
        status.of_drop_in(drop_in, where.unit, has_unit=os.path.exists(where.unit_file)),
    ]  # fmt: skip
    gateways = running.running(where, package)
    for each in gateways:
        installed_now = os.path.lexists(where.plugin)
        findings += status.of_gateway(each, _changed(where), installed=installed_now)
    if not gateways:
        findings.append(GatewayFinding("gateway", Containment.OK, "none runs"))
    scopes = Reader(mount_point()).snapshot(uid=os.getuid()).scopes
    sessions = status.sessions(scopes, gateways, seen.bare)
    if as_json:
        answer({
            "parts": [{key: safe_json(str(value)) for key, value in asdict(each).items()}
                      for each in findings],
            "sessions": [{**asdict(each), "detail": safe_json(each.detail)} for each in sessions],
            "servers": [_server(each) for each in seen.servers],
        })  # fmt: skip
    else:
        _print(findings, sessions)
        warn(seen.notes)
    fine = all(each.verdict is Containment.OK for each in findings) and all(
        s.unit for s in sessions
    )
    raise SystemExit(0 if fine else 1)


def _state_of_plugin(where: locations.GatewayPaths) -> files_installed.FileState:
    try:
        return files_installed.state_of(files_installed.plan_plugin(where))
    except ConfigError:
        return files_installed.FileState.KEPT


def _seen(where: locations.GatewayPaths) -> configuration.Seen:
    text = files.read(where.config).text()
    with located(where):
        return configuration.look_at(text)


def _changed(where: locations.GatewayPaths) -> float:
    """Return when what a gateway reads at its start was last changed by us."""
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
