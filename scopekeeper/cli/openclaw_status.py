"""``scopekeeper openclaw status``."""

import contextlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import answer, safe, safe_json, table, warn, with_no_trunc
from scopekeeper.cli.table import Column, Fit
from scopekeeper.doctor.parts import gateways as unbound_gateways
from scopekeeper.errors import ConfigError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.mcp_configs import files
from scopekeeper.mcp_configs.program import installed, mark_missing
from scopekeeper.mcp_configs.wrap import Launcher, WrapOutcome
from scopekeeper.openclaw import (
    bundles,
    configuration,
    files_installed,
    locations,
    running,
    status,
)
from scopekeeper.openclaw.install import entry_for, kill_mode, located
from scopekeeper.openclaw.status import Containment, GatewayFinding, Remedies
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.snapshot import Reader

GATEWAY_OPTIONS: list[click.Parameter] = [
    click.Option(["--profile"], metavar="NAME", default="", help="The OpenClaw profile. Default: "
                 "$OPENCLAW_PROFILE."),
    click.Option(["--config"], metavar="FILE", default="", help="The OpenClaw configuration. "
                 "Default: where OpenClaw looks for it."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print one versioned JSON object."),
]  # fmt: skip

_PARTS = (Column("PART"), Column("STATE"), Column("DETAIL", Fit.WRAP, 24))
SESSIONS = (
    Column("AGENT", Fit.MIDDLE, 8, need=1),
    Column("SESSION", Fit.MIDDLE, 22),
    Column("LANE", Fit.MIDDLE, 6, need=2),
    Column("STATE"),
    Column("MEMBERS", need=4, right=True),
    Column("PROCS", need=3, right=True),
    Column("WHAT", Fit.MIDDLE, 24),
)


@click.command(
    "status",
    short_help="Show what of OpenClaw is contained, and what is not.",
    params=[*GATEWAY_OPTIONS],
    epilog=examples("scopekeeper openclaw status", "scopekeeper openclaw status --json"),
)
@with_no_trunc
def status_command(profile: str, config: str, as_json: bool, no_trunc: bool) -> None:
    """Show for each agent and session what is contained, what is not, and why.

    Each gap comes with the command that mends it. Exit status: 0 everything is contained, and the
    gateway runs, or has no unit; 1 something is not, or a gateway is still starting.
    """
    judged = judge(profile, config)
    findings, sessions, found = judged.findings, judged.sessions, judged.found
    if as_json:
        answer({
            "parts": [{key: safe_json(str(value)) for key, value in asdict(each).items()}
                      for each in findings],
            "sessions": [{**asdict(each), "detail": safe_json(each.detail)} for each in sessions],
            "servers": [server_document(each) for each in found.servers],
        })  # fmt: skip
    else:
        _print(findings, sessions, no_trunc=no_trunc)
        warn(found.notes)
    raise SystemExit(0 if status.is_fine(findings, sessions) else 1)


@dataclass(frozen=True, slots=True)
class Judged:
    """What is contained of one gateway, and what is not."""

    findings: list[GatewayFinding]
    sessions: list[status.Session]
    found: configuration.Found


def judge(profile: str = "", config: str = "") -> Judged:
    """Judge the gateway of a profile; raises ConfigError."""
    where = locations.find(os.environ, profile=profile, config=config)
    package = locations.package(where, os.environ)
    launcher = Launcher(*installed())
    remedies = _remedies(where, launcher, profile, config)
    found = configuration_of(where)
    marked = mark_missing(found.servers, lambda _: f"`{remedies.install}`")
    found = replace(found, servers=marked)
    findings = _installed(where, package, launcher, found, remedies)
    gateways = running.running(where, package, found.backends)
    for each in gateways:
        installed_now = os.path.lexists(where.plugin)
        findings += status.of_gateway(each, _changed(where), remedies, installed=installed_now)
    if not gateways:
        state = running.unit_state(where) if os.path.exists(where.unit_file) else None
        findings.append(status.of_no_gateway(where.unit, state))
    findings += [
        GatewayFinding(each.check, Containment.LACKS, each.detail, each.fix)
        for each in unbound_gateways(Caller())
    ]
    scopes = Reader(mount_point()).snapshot(uid=os.getuid()).scopes
    sessions = status.sessions(scopes, gateways, found.bare, remedies)
    return Judged(findings, sessions, found)


def _remedies(
    where: locations.GatewayPaths, launcher: Launcher, profile: str, config: str
) -> Remedies:
    given = {"--profile": profile, "--config": config}
    options = "".join(f" {name} {shlex.quote(value)}" for name, value in given.items() if value)
    restart = f"systemctl --user restart {where.unit}"
    then = f" && {restart}" if os.path.exists(where.unit_file) else ""
    return Remedies(
        install=f"scopekeeper openclaw install{options}{then}",
        rewrap=f"scopekeeper openclaw rewrap{options}{then}",
        restart=restart,
        log=f"journalctl --user -u {where.unit} -e",
        by_hand=f"SHELL={launcher.absolute}-shell openclaw gateway",
        config=where.config,
    )


def _installed(
    where: locations.GatewayPaths,
    package: locations.Package | None,
    launcher: Launcher,
    found: configuration.Found,
    remedies: Remedies,
) -> list[GatewayFinding]:
    """Judge what is installed for a gateway, whether it runs or not."""
    planned = files_installed.plan_drop_in(where, launcher.absolute)
    drop_in = files_installed.state_of([planned])
    wanted = entry_for(launcher, package)
    return [
        status.of_servers(found, remedies),
        *status.of_bundles(bundles.of_gateway(where), remedies),
        status.of_plugin(_state_of_plugin(where), found, wanted, remedies),
        status.of_drop_in(drop_in, where.unit, kill_mode(where), remedies,
                          has_unit=os.path.exists(where.unit_file)),
    ]  # fmt: skip


def _state_of_plugin(where: locations.GatewayPaths) -> files_installed.FileState:
    try:
        return files_installed.state_of(files_installed.plan_plugin(where))
    except ConfigError:
        return files_installed.FileState.KEPT


def configuration_of(where: locations.GatewayPaths) -> configuration.Found:
    """Return the current state of a gateway's configuration; raises ConfigError."""
    text = files.read(where.config).text()
    with located(where):
        return configuration.look_at(text)


def server_document(outcome: WrapOutcome) -> dict[str, object]:
    """Return the JSON object of a server."""
    return {"name": outcome.name, "state": outcome.state.value, "detail": outcome.detail or None}


def _changed(where: locations.GatewayPaths) -> float:
    """Return when the files that a gateway reads at its start were last installed."""
    times = []
    for path in (where.drop_in, where.plugin):
        with contextlib.suppress(OSError):
            times.append(os.stat(path).st_mtime)
    return max(times, default=0.0)


def _print(
    findings: Sequence[GatewayFinding], sessions: Sequence[status.Session], *, no_trunc: bool
) -> None:
    table(_PARTS, [(f.part, f.verdict.value, f.detail) for f in findings],
          beneath=[_mend(f.fix) for f in findings], whole=no_trunc)  # fmt: skip
    if not sessions:
        return
    click.echo()
    rows = [
        (s.agent, s.session, s.lane, s.state, str(s.members), str(s.processes), s.detail)
        for s in sessions
    ]
    table(SESSIONS, rows, beneath=[_mend(s.fix) for s in sessions], whole=no_trunc)


def _mend(fix: str) -> list[str]:
    return [safe(f"    to mend it: {fix}")] if fix else []
