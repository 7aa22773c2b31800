"""``scopekeeper reconcile``."""

import dataclasses
import os
from typing import Any

import click

from scopekeeper import systemd
from scopekeeper.cli import escaped, owned
from scopekeeper.cli.show import answer, table, warn
from scopekeeper.cli.stop import REMAINS
from scopekeeper.errors import ManagerError
from scopekeeper.launch.aside import step_out
from scopekeeper.launch.place import mount_point
from scopekeeper.launch.rules import find
from scopekeeper.model import Snapshot
from scopekeeper.plan import Action, Verdict, plan
from scopekeeper.policy.load import load
from scopekeeper.reconcile import Done, apply
from scopekeeper.snapshot import Reader


@click.command("reconcile")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and why.")
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object.")
@click.option("--owner", metavar="UNIT|PID", help="Only what belongs to this gateway.")
@click.option("--unless-keeper", is_flag=True, help="Do nothing where a keeper runs: it has done "
              "it all.")  # fmt: skip
def command(dry_run: bool, as_json: bool, owner: str | None, unless_keeper: bool) -> None:
    """Find the scopes that nobody owns any more, and end what the policy says.

    Only what is proved to be without its owner is ended; all else is reported. Exit status: 0
    done; 1 something was refused; 5 processes remain that cannot be killed.
    """
    if unless_keeper and _keeper_runs():
        if as_json:
            answer({"dry_run": dry_run, "actions": [], **owned.Paths().document})
        else:
            click.echo("A keeper runs.")
        return
    warn(find().ignored)
    policy = load()
    reader = Reader(mount_point(), activity=policy.counts_idle)
    snapshot = _with_units(reader.snapshot(uid=os.getuid()))
    actions = plan(snapshot, policy, owner=owner)
    warnings: list[str] = []
    if dry_run:
        done = [Done(action, "") for action in actions]
    else:
        done = apply(actions, policy, reader, snapshot, warnings, step_out=step_out)
    warn(warnings)
    left = [] if owner else escaped.treat(reader, stops=policy.stops_escaped, dry_run=dry_run)
    paths = owned.due(reader.mount) if dry_run else owned.release(reader.mount)
    if as_json:
        documents = [_document(each) for each in done] + [each.document for each in left]
        answer({"dry_run": dry_run, "actions": documents, **paths.document})
    else:
        _print(done, [each.row for each in left], dry_run=dry_run)
        paths.print()
    outcomes = {each.outcome for each in done}
    if "remains" in outcomes:
        raise SystemExit(REMAINS)
    raise SystemExit(1 if "refused" in outcomes or paths.failed else 0)


def _keeper_runs() -> bool:
    from scopekeeper.keeper import lock  # with sockets and json, which nothing else here needs

    return lock.runs()


def _with_units(snapshot: Snapshot) -> Snapshot:
    """Add what systemd knows, where it can be asked; the plan does without."""
    managers = {scope.manager for scope in snapshot.scopes if scope.manager}
    try:
        known = [systemd.scope_units(manager) for manager in sorted(managers)]
    except ManagerError:
        return snapshot
    return dataclasses.replace(snapshot, units=frozenset().union(*known)) if known else snapshot


def _print(done: list[Done], more: list[tuple[str, ...]], *, dry_run: bool) -> None:
    rows: list[tuple[str, ...]] = [
        (
            each.action.scope.session,
            each.action.scope.lane,
            each.action.scope.run or "-",
            each.action.member.name if each.action.member else "*",
            each.action.verdict.value,
            each.action.step.value if dry_run else each.outcome,
            _evidence(each),
        )
        for each in done
    ]
    rows += more
    if not rows:
        click.echo("No scopes.")
        return
    table(
        ("SESSION", "LANE", "RUN", "MEMBER", "CLASS", "WOULD" if dry_run else "DONE", "EVIDENCE"),
        rows,
        shrink=(0, 1, 2, 3, 6),
    )


def _evidence(done: Done) -> str:
    text = done.action.evidence
    if done.result is not None and done.result.problem:
        text += f"; {done.result.problem}"
    if done.action.verdict in (Verdict.DAMAGED, Verdict.FORGED) and done.action.member is None:
        text += f"; end it: {done.action.scope.command_to_end(os.getuid())}"
    for left in done.result.remaining if done.result else ():
        text += f"; pid {left.pid} waits in {left.wchan} (state {left.state})"
    return text


def _document(done: Done) -> dict[str, Any]:
    action: Action = done.action
    return {
        "unit": action.scope.unit,
        "cgroup": action.scope.cgroup,
        "member": action.member.name if action.member else None,
        "member_id": action.member.member_id if action.member else None,
        "class": action.verdict.value,
        "action": action.step.value,
        "evidence": action.evidence,
        "outcome": done.outcome or None,
        "problem": done.result.problem or None if done.result else None,
    }
