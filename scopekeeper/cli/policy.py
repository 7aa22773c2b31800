"""``scopekeeper policy``."""

import os
from collections.abc import Mapping

import click

from scopekeeper.cli import policy_commands
from scopekeeper.cli.examples import examples
from scopekeeper.cli.group import Group
from scopekeeper.cli.policy_check import check_command
from scopekeeper.cli.policy_preset import preset_command
from scopekeeper.cli.show import answer, safe, safe_json, table, warn
from scopekeeper.cli.table import Column, Fit
from scopekeeper.errors import UsageError
from scopekeeper.lifecycle.stop_target import GRACE
from scopekeeper.policy.files import find
from scopekeeper.policy.load import load
from scopekeeper.policy.rules import BUILT_IN, BY_KIND, Setting
from scopekeeper.policy.values import DURATIONS, FOREVER
from scopekeeper.quantities import written_duration
from scopekeeper.scope.names import LANE_MAX, check, lane_class
from scopekeeper.scope.records import KINDS

_UNSET = {"lifetime": "gateway; of a pty: session", "grace": written_duration(round(GRACE * 1e6))}
"""What holds where no file sets a rule; none of the other rules holds then."""


@click.group(
    "policy",
    cls=Group,
    epilog=examples("scopekeeper policy show cron", "scopekeeper policy preset workstation"),
)
def command() -> None:
    """Show and check the rules of lanes and the commands for events, and try a command."""


command.add_command(check_command)
command.add_command(preset_command)
command.add_command(policy_commands.try_command)


@command.command(
    "show",
    short_help="Print the rules of a lane, and where each is set.",
    epilog=examples("scopekeeper policy show", "scopekeeper policy show cron --json"),
)
@click.argument("lane", default="default", metavar="[LANE]")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
def show(lane: str, as_json: bool) -> None:
    """Print the rules of LANE, each with the file and line that set it.

    A lane has the rules of its class: the part of its name before the first colon. A rule that
    depends on the kind of a member has one line for each kind; one that differs for an MCP server
    has a line with its name. A line on standard error notes a lane that no file and none of your
    scopes mentions. A second table has the commands that the keeper runs for ends and events, if
    there are any.
    """
    found, policy = find(), load()
    warn(found.ignored)
    try:
        lane = lane_class(check("lane", lane, LANE_MAX))
    except ValueError as error:
        raise UsageError(str(error)) from None
    mentioned = policy.mentions(lane) or lane in _lanes_of_scopes()
    settings = policy.settings(lane)
    commands = policy_commands.of_lane(policy, lane)
    kinds = {kind: _by_kind(policy.settings(lane, kind)) for kind in KINDS}
    if as_json:
        answer({"lane_class": lane, "mentioned": mentioned, "rules": _document(settings),
                "kinds": {kind: _document(each) for kind, each in kinds.items()},
                "servers": {safe_json(name): _document(each)
                            for name, each in policy.servers.items()},
                "escaped": settings["escaped"].value,
                "commands": [policy_commands.document(each) for each in commands],
                "files": found.sources, "ignored": found.ignored})  # fmt: skip
        return
    if not mentioned:
        text = f"no file and no scope mentions the lane {lane!r}; a lane of that name would have "
        click.echo(f"scopekeeper: {safe(text)}these rules", err=True)
    rows = []
    for key, setting in settings.items():
        shown = {f"{key} ({kind})": each[key] for kind, each in kinds.items() if key in each}
        if len(set(shown.values())) < 2:
            shown = {key: next(iter(shown.values()), setting)}
        shown |= {
            f"{key} ({safe(name)})": table[key]
            for name, table in policy.servers.items()
            if key in table
        }
        rows += [(label, _written(key, each), safe(each.source)) for label, each in shown.items()]
    table((Column("RULE", Fit.MIDDLE, 36), "VALUE", Column("FROM", Fit.WRAP)), rows)
    if commands:
        click.echo()
        policy_commands.print_table(commands)


def _lanes_of_scopes() -> set[str]:
    """Return the lane classes of this user's scopes; empty if they cannot be read."""
    from scopekeeper.kernel.proc import mount_point
    from scopekeeper.scope.snapshot import Reader

    try:
        snapshot = Reader(mount_point()).snapshot(uid=os.getuid())
    except (OSError, LookupError):  # no cgroup2: the files can be shown all the same
        return set()
    return {lane_class(scope.lane) for scope in snapshot.scopes}


def _by_kind(settings: dict[str, Setting]) -> dict[str, Setting]:
    return {key: settings[key] for key in BY_KIND}


def _document(settings: Mapping[str, Setting]) -> dict[str, dict[str, object]]:
    return {
        key: {"value": each.value, "source": safe(each.source)} for key, each in settings.items()
    }


def _written(key: str, setting: Setting) -> str:
    value = setting.value
    if value is None:
        return _UNSET.get(key, "-") if setting.source == BUILT_IN else "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if key in DURATIONS and isinstance(value, int):
        return "infinity" if value == FOREVER else written_duration(value)
    return str(value)
