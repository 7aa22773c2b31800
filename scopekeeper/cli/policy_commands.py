"""The commands of the policy, for ``scopekeeper policy``: their table, and a try of one."""

import shlex

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import answer, safe, table
from scopekeeper.cli.table import Column, Fit
from scopekeeper.errors import NotFoundError, ScopekeeperError
from scopekeeper.policy.command_rules import MEMORY, ON_END, CommandRule
from scopekeeper.policy.load import load
from scopekeeper.policy.rules import DEFAULT, Policy
from scopekeeper.quantities import show_duration

_COLUMNS = (
    Column("COMMAND"), Column("FOR", Fit.WRAP), Column("RUNS", Fit.WRAP), Column("FROM", Fit.WRAP)
)  # fmt: skip


def of_lane(policy: Policy, lane: str) -> list[CommandRule]:
    """Return the rules that are for a lane class; all of them for the default one."""
    return [x for x in policy.commands if lane == DEFAULT or not x.lanes or lane in x.lanes]


def print_table(rules: list[CommandRule]) -> None:
    """Print what commands are for, and what they run."""
    table(_COLUMNS, [
        (rule.title, _subject(rule), safe(_command(rule)), safe(rule.source)) for rule in rules
    ])  # fmt: skip


def document(rule: CommandRule) -> dict[str, object]:
    """Return a rule for JSON."""
    is_end = rule.table == ON_END
    return {
        "title": rule.title,
        "enabled": rule.enabled,
        "command": list(rule.words),
        "shell": rule.shell,
        **({"reasons": sorted(rule.reasons)} if is_end else {"events": sorted(rule.events)}),
        "memory_share": rule.memory_share if MEMORY in rule.events else None,
        "lanes": sorted(rule.lanes),
        "kinds": sorted(rule.kinds),
        "timeout_s": rule.timeout / 1e6,
        "memory_max": rule.memory_max,
        "rate": rule.rate,
        "source": safe(rule.source),
    }


def _subject(rule: CommandRule) -> str:
    """Return what a command is for."""
    if not rule.enabled:
        return "nothing: it is not enabled"
    if rule.table == ON_END:
        words = ", ".join(sorted(rule.reasons)) or "any reason"
    else:
        share = f" {rule.memory_share * 100:g}%"
        words = ", ".join(f"{x}{share}" if x == MEMORY else x for x in sorted(rule.events))
    parts = (words, *(f"lane {x}" for x in sorted(rule.lanes)),
             *(f"kind {x}" for x in sorted(rule.kinds)))  # fmt: skip
    return "; ".join(parts)


def _command(rule: CommandRule) -> str:
    return rule.words[0] if rule.shell else shlex.join(rule.words)


@click.command(
    "test",
    short_help="Run a command for events now, to try it.",
    epilog=examples("scopekeeper policy test desktop --dry-run"),
)
@click.argument("rule", metavar="RULE")
@click.option("--dry-run", is_flag=True, help="Print what the command would be given, and do not "
              "run it.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
def try_command(rule: str, dry_run: bool, as_json: bool) -> None:
    """Run the command of RULE now, with an event that did not happen.

    RULE is on_end.NAME, on_event.NAME, or NAME. The command is run as the keeper would run it: as a
    service of its own, with the same limits. Its variable SCOPEKEEPER_EVENT_TEST is 1. The exit
    status is 1 if it fails.
    """
    from scopekeeper.keeper import command_input, command_run
    from scopekeeper.keeper.command_sample import sample

    chosen = _chosen(rule)
    given = command_input.given(chosen, sample(chosen), is_test=True)
    if dry_run:
        if as_json:
            answer({"argv": list(given.argv), "variables": given.variables,
                    "stdin": given.stdin.decode()})  # fmt: skip
            return
        click.echo(safe(shlex.join(given.argv)))
        for name, value in given.variables.items():
            click.echo(f"{name}={safe(value)}")
        click.echo(given.stdin, nl=False)
        return
    outcome = command_run.run(chosen, given)
    if as_json:
        answer({"rule": chosen.title, "problem": outcome.problem, "output": outcome.output,
                "seconds": round(outcome.seconds, 3), "where": outcome.where})  # fmt: skip
        raise SystemExit(1 if outcome.problem else 0)
    for line in outcome.output.splitlines():
        click.echo(safe(line))
    if outcome.problem:
        raise ScopekeeperError(f"{chosen.title}: its command failed: {outcome.problem}")
    click.echo(f"{chosen.title}: its command succeeded after {show_duration(outcome.seconds)}")


def _chosen(name: str) -> CommandRule:
    """Return the rule of a name; raises ScopekeeperError."""
    found = [rule for rule in load().commands if name in (rule.title, rule.name)]
    if not found:
        raise NotFoundError(
            f"the policy has no command {name}", "`scopekeeper policy show` lists them"
        )
    if len(found) > 1:
        raise ScopekeeperError(f"{name} is {' and '.join(each.title for each in found)}")
    return found[0]
