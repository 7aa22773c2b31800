"""``scopekeeper openclaw rewrap``."""

import os

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.openclaw_status import GATEWAY_OPTIONS
from scopekeeper.cli.show import answer, safe, safe_json, warn
from scopekeeper.openclaw import locations
from scopekeeper.openclaw.rewrap import rewrap


@click.command(
    "rewrap",
    params=[*GATEWAY_OPTIONS],
    epilog=examples("scopekeeper openclaw rewrap", "scopekeeper openclaw rewrap --dry-run"),
)
@click.option("--except", "excepted", multiple=True, metavar="SERVER", help="Leave this server as "
              "it is; may be given several times.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only print which servers would be wrapped.")
def rewrap_command(
    profile: str, config: str, as_json: bool, excepted: tuple[str, ...], dry_run: bool
) -> None:
    """Wrap the servers that have appeared since `openclaw install`.

    Those that `openclaw mcp add` wrote into the configuration, and those in the bundles of other
    plugins. The rule `rewrap = true` has the keeper do this when such a file changes. A file is
    left as it is if it is not valid, belongs to another user, is a link or has hard links, if
    others can write to it or to its folder, if it changes meanwhile, or if a server in it is
    unclear. Exit status: 0 done; 1 a file was left as it is.
    """
    where = locations.find(os.environ, profile=profile, config=config)
    outcome = rewrap(where, frozenset(excepted), dry_run=dry_run)
    if as_json:
        answer({
            "dry_run": dry_run,
            "wrapped": [{"file": safe_json(each.path), "server": safe_json(each.server)}
                        for each in outcome.wrapped],
            "problems": [safe_json(text) for text in outcome.problems],
        })  # fmt: skip
    else:
        would = "would be " if dry_run else ""
        for each in outcome.wrapped:
            click.echo(safe(f"{each.path}: server {each.server} {would}wrapped"))
        if not outcome.wrapped and not outcome.problems:
            click.echo("Nothing to change.")
        warn(outcome.problems)
    raise SystemExit(1 if outcome.problems else 0)
