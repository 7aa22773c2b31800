"""``scopekeeper own``."""

from typing import Any

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.owned import damages
from scopekeeper.cli.show import answer, safe, safe_json, table
from scopekeeper.cli.table import Column, Fit
from scopekeeper.cli.users import uid_of, with_all_users
from scopekeeper.errors import NOTHING_MATCHED, UsageError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.owned.claim_at_launch import path_of
from scopekeeper.owned.claim_running import Given, give, holders
from scopekeeper.owned.holders import Here
from scopekeeper.owned.plan import ClaimVerdict
from scopekeeper.owned.release import ReleaseOutcome, look, release_due, sentences
from scopekeeper.owned.store import ClaimStore, Damaged
from scopekeeper.scope.names import with_suffix
from scopekeeper.scope.selection import Selector
from scopekeeper.scope.snapshot import Reader

_COLUMNS = (
    Column("PATH", Fit.MIDDLE, 20),
    Column("STATE"),
    Column("HOLDER", Fit.MIDDLE, 12),
    Column("EVIDENCE", Fit.WRAP, 20),
)


@click.command(
    "own",
    epilog=examples(
        "scopekeeper own -s agent:main:main --keep-until-end /tmp/agent-main",
        "scopekeeper own --list",
    ),
)
@click.option("-s", "--session", metavar="KEY", help="Hand over to the scopes of this session.")
@click.option("-l", "--lane", metavar="LANE", help="Only to scopes in this lane.")
@click.option("-n", "--name", metavar="NAME", help="Only to the member of this name.")
@click.option("--own-scope", is_flag=True, help="Hand over to the whole scope of that member.")
@click.option("--keep-until-end", is_flag=True, help="Keep a path even if no process uses it now.")
@click.option("--list", "as_list", is_flag=True, help="List owned paths and their holders.")
@with_all_users("Also to scopes of other users; root only.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@click.argument("words", nargs=-1, metavar="[UNIT] PATH...")
def command(
    session: str | None,
    lane: str | None,
    name: str | None,
    own_scope: bool,
    keep_until_end: bool,
    as_list: bool,
    all_users: bool,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Hand paths over to running scopes: each is removed when its last user has ended.

    A path that no process there uses is removed at once. Exit status: 0 done; 1 a path was refused
    or could not be removed yet; 4 no running scope or member matched, and no path was touched.
    """
    if as_list:
        if words:
            raise UsageError("--list shows everything that is owned", "leave out the paths")
        _list(as_json=as_json)
    unit, paths = "", words
    if words and session is None and name is None and not words[0].startswith(("/", ".")):
        unit, paths = words[0], words[1:]
    if not unit and session is None and name is None:
        raise UsageError("no scope to hand the paths over to",
                         "give --session or --name, or a UNIT before PATH")  # fmt: skip
    if not paths:
        raise UsageError("no path given", "write: scopekeeper own -s SESSION PATH...")
    selector = Selector(
        session=session,
        lane=lane,
        name=name,
        units=frozenset([with_suffix(unit)] if unit else []),
    )
    targets = [path_of(path) for path in paths]
    mount = mount_point()
    here = Here(mount)
    snapshot = Reader(mount, unlock=True).snapshot(uid=uid_of(all_users=all_users))
    to = holders(snapshot, selector, here, whole_scope=own_scope)
    if not to:
        click.echo("No running scope or member matched; nothing was handed over.", err=True)
        raise SystemExit(NOTHING_MATCHED)
    given = give(ClaimStore.make(), here, targets, to, keep=keep_until_end)
    _release(given, mount, as_json=as_json)


def _release(given: list[Given], mount: str, *, as_json: bool) -> None:
    """Remove unused paths at once, print the outcome of each path, and exit."""
    made = {each.claim.claim_id for each in given}
    report = release_due(mount, only=lambda claim: claim.claim_id in made)
    outcomes = {outcome.claim.claim_id: outcome for outcome in report.done}
    if as_json:
        answer({"owned": [_given(each, outcomes.get(each.claim.claim_id)) for each in given]})
    else:
        for each in given:
            outcome = outcomes.get(each.claim.claim_id)
            claim = each.claim
            if outcome is not None:
                click.echo(safe(sentences([outcome])[0]))
            elif each.use:
                click.echo(safe(f"{claim.path}: owned by {claim.holder.label}: {each.use}"))
            else:
                click.echo(safe(f"{claim.path}: kept: other holders own it too"))
    if report.problem:
        click.echo(f"scopekeeper: {safe(report.problem)}", err=True)
    failed = report.problem or any(outcome.what == "failed" for outcome in report.done)
    raise SystemExit(1 if failed else 0)


def _given(given: Given, outcome: ReleaseOutcome | None) -> dict[str, Any]:
    return {
        "path": safe_json(given.claim.path),
        "unit": given.claim.holder.unit,
        "leaf": given.claim.holder.leaf or None,
        "use": given.use or None,
        "outcome": outcome.what if outcome else "held",
        "problem": safe_json(outcome.problem) or None if outcome else None,
    }


def _list(*, as_json: bool) -> None:
    store = ClaimStore.find()
    verdicts, damaged = look(store, mount_point()) if store is not None else ([], [])
    if as_json:
        answer({"owned": [_document(verdict) for verdict in verdicts],
                "owned_problems": damages(damaged)})  # fmt: skip
    else:
        _print(verdicts, damaged)
    raise SystemExit(1 if damaged else 0)


def _print(verdicts: list[ClaimVerdict], damaged: list[Damaged]) -> None:
    if verdicts:
        table(
            _COLUMNS,
            [(v.claim.title, v.state, v.claim.holder.label, _evidence(v)) for v in verdicts],
        )
    elif not damaged:
        click.echo("No owned paths.")
    for line in damages(damaged):
        click.echo(f"scopekeeper: {safe(line)}", err=True)


def _evidence(verdict: ClaimVerdict) -> str:
    claim = verdict.claim
    if verdict.state == "failed":
        return f"{claim.problem} (attempt {claim.attempts}); {verdict.evidence}"
    return verdict.evidence


def _document(verdict: ClaimVerdict) -> dict[str, Any]:
    claim = verdict.claim
    return {
        "path": safe_json(claim.path),
        "container": claim.claim_id if claim.container is not None else None,
        "state": verdict.state,
        "evidence": safe_json(verdict.evidence),
        "holder": claim.holder.kind.value,
        "unit": claim.holder.unit or None,
        "leaf": claim.holder.leaf or None,
        "made": claim.made / 1e6,
        "attempts": claim.attempts,
        "problem": safe_json(claim.problem) or None,
    }
