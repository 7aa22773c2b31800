"""``scopekeeper policy``."""

import click

from scopekeeper.cli.show import answer, safe, table, warn
from scopekeeper.errors import UsageError
from scopekeeper.launch.rules import find
from scopekeeper.names import LANE_MAX, check, lane_class
from scopekeeper.policy.load import load
from scopekeeper.policy.rules import FOREVER, Setting
from scopekeeper.quantities import show_duration

_DURATIONS = ("orphan_grace", "session_grace", "leader_grace", "ttl", "grace", "idle")


@click.group("policy")
def command() -> None:
    """Show the rules that lanes have."""


@command.command("show")
@click.argument("lane", default="default", metavar="[LANE]")
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object.")
def show(lane: str, as_json: bool) -> None:
    """Print what holds for LANE, and which file and line said so.

    A lane's rules are those of its class, which is what stands before its first colon.
    """
    found, policy = find(), load()
    warn(found.ignored)
    try:
        kind = lane_class(check("lane", lane, LANE_MAX))
    except ValueError as error:
        raise UsageError(str(error)) from None
    settings = policy.settings(kind)
    if as_json:
        rules = {
            key: {"value": each.value, "source": safe(each.source)}
            for key, each in settings.items()
        }
        escaped = "stop" if policy.stops_escaped else "report"
        answer(
            {
                "lane_class": kind,
                "rules": rules,
                "escaped": escaped,
                "files": found.sources,
                "ignored": found.ignored,
            }
        )
        return
    rows = [(key, _written(key, each), safe(each.source)) for key, each in settings.items()]
    table(("RULE", "VALUE", "FROM"), rows, shrink=(2,))


def _written(key: str, setting: Setting) -> str:
    value = setting.value
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if key in _DURATIONS and isinstance(value, int):
        return "infinity" if value == FOREVER else show_duration(value / 1e6)
    return str(value)
