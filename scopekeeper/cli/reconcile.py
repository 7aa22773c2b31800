"""``scopekeeper reconcile``."""

import contextlib
import dataclasses
import functools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from scopekeeper.cli import cells, escaped, interrupted, owned, unseen
from scopekeeper.cli.cells import Cell
from scopekeeper.cli.colour import Paint
from scopekeeper.cli.examples import examples
from scopekeeper.cli.list_options import with_list_options
from scopekeeper.cli.list_view import ListOptions, Row, View
from scopekeeper.cli.ls_rows import STATE_PAINTS
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.select_options import with_target_options
from scopekeeper.cli.show import answer, safe, safe_json, unread_text, warn
from scopekeeper.cli.stop_run import REMAINS
from scopekeeper.cli.table import Column, Fit
from scopekeeper.cli.users import require_root, user, user_fields, with_all_users
from scopekeeper.errors import InterruptedWorkError, ManagerError, StateError, UsageError
from scopekeeper.kernel import unix_sockets
from scopekeeper.kernel.proc import mount_point
from scopekeeper.launch.leave_scope import step_out
from scopekeeper.lifecycle.plan import Action, Verdict, plan
from scopekeeper.lifecycle.reconcile import Done, apply, untouched
from scopekeeper.policy.files import find
from scopekeeper.policy.load import load
from scopekeeper.scope import names
from scopekeeper.scope.model import Snapshot
from scopekeeper.scope.selection import Selector, covers
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd import calls

NOTHING = "nothing"
"""What is done about a scope that another process is ending."""
_KEEPER_RUNS = "A keeper runs."
_STEP = 6
"""The place of the column WOULD, or DONE, in a row."""
_STEP_PAINTS: Mapping[str, Paint] = {
    **dict.fromkeys(("stop", "refused", "remains"), Paint.RED),
    **dict.fromkeys(("keep", "kept", NOTHING), Paint.DIM),
}
_LONGEST = 3600.0
"""Seconds that the reconcile of another user may take: several graces of up to ten minutes."""


@dataclass(frozen=True, slots=True)
class _Report:
    """What was done, or would be, for one user. Plain values only: it crosses processes as JSON."""

    rows: list[list[Cell]]
    """Without the first one, the user."""
    documents: list[dict[str, Any]]
    owned: list[dict[str, Any]]
    lines: list[str]
    problems: list[str]
    warnings: list[str]
    waits: bool
    """Whether something ends after its grace, and no keeper runs to do that."""
    status: int


def columns(*, dry_run: bool) -> list[Column]:
    """Return the columns of the table."""
    return [
        Column("USER", extra=True),
        Column("SESSION", Fit.MIDDLE, 18),
        Column("LANE", Fit.MIDDLE, 6, need=2),
        Column("RUN", Fit.MIDDLE, 9, need=1),
        Column("MEMBER", Fit.MIDDLE, 8),
        Column("CLASS", paints=STATE_PAINTS),
        Column("WOULD" if dry_run else "DONE", paints=_STEP_PAINTS),
        Column("EVIDENCE", Fit.WRAP, 26),
    ]


@click.command(
    "reconcile",
    epilog=examples("scopekeeper reconcile --dry-run", "scopekeeper reconcile -s agent:main:main"),
)
@with_hosts("reconcile")
@with_target_options(words=False)
@click.option("--dry-run", is_flag=True, help="Only print what would be done, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@click.option("--unless-keeper", is_flag=True, help="Do nothing if a keeper runs, since it "
              "reconciles by itself.")  # fmt: skip
@with_all_users("Run as every user who has scopes, by that user's policy; root only.")
@with_list_options(columns(dry_run=True))
def command(
    selector: Selector,
    dry_run: bool,
    as_json: bool,
    unless_keeper: bool,
    all_users: bool,
    options: ListOptions,
) -> None:
    """Find scopes that lost their owner, and end them by the rules of the policy.

    A scope ends only if the end of its owner is proved; all others are reported. Options restrict
    it to some scopes and members; it then ignores processes that left their scope.

    It does not wait for the keeper or for another stop: the line says who ends it, and
    until when. "changed meanwhile" is what had ended, or was adopted, at a second look right before
    its stop; nothing was done about it.

    Exit status: 0 done, or another process is ending it and the line says until when; 1 something
    was refused, or another stop is not proved or late; 5 processes remain that cannot be killed.
    """
    options.require_rows(as_json)
    require_dry_run(options.where, dry_run=dry_run)
    view = options.view(columns(dry_run=dry_run))
    if unless_keeper and unseen.keeper_runs():
        if as_json:
            answer({"dry_run": dry_run, "actions": [], "lines": [_KEEPER_RUNS],
                    **owned.OwnedReport().document})  # fmt: skip
        else:
            click.echo(_KEEPER_RUNS)
        return
    if all_users:
        require_root("reconcile the scopes of other users")
    with contextlib.nullcontext() if dry_run else _interruptible(all_users=all_users):
        reports = {os.getuid(): _reconcile(dry_run, selector)}
        if all_users:
            reports |= _of_others(dry_run, selector)
    for report in reports.values():
        warn(report.warnings)
    rows = view.arranged(_rows(reports))
    if as_json:
        answer({
            "dry_run": dry_run,
            "actions": [row.of for row in rows],
            "lines": [safe_json(line) for line in _lines(reports, dry_run=dry_run)],
            "owned": [
                {**user_fields(uid), **document}
                for uid, report in reports.items()
                for document in report.owned
            ],
            "owned_problems": [line for each in reports.values() for line in each.problems],
        })  # fmt: skip
    else:
        _print(rows, reports, selector, view, dry_run=dry_run, users=all_users)
    statuses = {report.status for report in reports.values()}
    raise SystemExit(next((status for status in (REMAINS, 1) if status in statuses), 0))


def require_dry_run(where: Sequence[str], *, dry_run: bool) -> None:
    """Raise UsageError for a condition on what is printed, if more than that would be done."""
    if where and not dry_run:
        raise UsageError(
            "--where only selects what --dry-run prints", "add --dry-run, or give --session, --name"
        )


@contextlib.contextmanager
def _interruptible(*, all_users: bool) -> Iterator[None]:
    """Have Ctrl-C print what was begun: a reconcile does its work again from the start."""
    try:
        with interrupted.reported():
            yield
    except InterruptedWorkError as error:
        if str(error) != interrupted.NOTHING:
            raise
        option = " --all-users" if all_users else ""
        text = f"the next `scopekeeper reconcile{option}` does what this one did not"
        raise InterruptedWorkError(text) from None


def _reconcile(dry_run: bool, selector: Selector) -> _Report:
    policy = load()
    reader = Reader(
        mount_point(),
        activity=policy.counts_idle,
        unlock=not dry_run,
        sockets=functools.cache(unix_sockets.read),
    )
    snapshot = _with_units(reader.snapshot(uid=os.getuid()))
    rest = dataclasses.replace(selector, owner=None)
    actions = plan(snapshot, policy, owner=selector.owner)
    if rest != Selector():
        actions = [each for each in actions if covers(rest, each.scope, each.member)]
    warnings = [*find().ignored, *unread_text(snapshot.unread)]
    if dry_run:
        done = [dataclasses.replace(untouched(action), outcome="") for action in actions]
    else:
        done = apply(actions, policy, reader, snapshot, warnings, step_out=step_out)
        _tidy_stderr()
        problem = unseen.collect()
        warnings += [problem] if problem and problem not in warnings else []
    handled = []
    if selector == Selector():
        handled = escaped.handle(reader, policy, dry_run=dry_run, warnings=warnings)
    units = {action.scope.unit for action in actions}
    only = None if rest == Selector() else units.__contains__
    paths = owned.due(reader.mount, only) if dry_run else owned.release(reader.mount, only)
    outcomes = {each.outcome for each in done}
    settled = dry_run or all(each.is_settled for each in done)
    status = 1 if "refused" in outcomes or paths.failed or not settled else 0
    rows = [*(_row(each, dry_run=dry_run) for each in done), *(each.row for each in handled)]
    return _Report(
        rows=[list(map(cells.text, row)) for row in rows],
        documents=[_document(each) for each in done] + [each.document for each in handled],
        owned=list(paths.documents),
        lines=list(paths.lines),
        problems=list(paths.problems),
        warnings=warnings,
        waits=any(map(_waits, done)) and not unseen.keeper_runs(),
        status=REMAINS if "remains" in outcomes else status,
    )


def _tidy_stderr() -> None:
    """Shorten files that members write to, as a keeper does at once, and remove old ones."""
    from scopekeeper.stderr import bounds

    with contextlib.suppress(StateError):
        bounds.tidy()


def _waits(done: Done) -> bool:
    return done.action.due is not None and done.action.verdict is not Verdict.OWNED


def _of_others(dry_run: bool, selector: Selector) -> dict[int, _Report]:
    """Reconcile as each other user who has scopes."""
    from scopekeeper import as_user

    uids = sorted({uid for _, uid in Reader(mount_point()).of_others(0)})
    answers = as_user.ask(uids, lambda: asdict(_reconcile(dry_run, selector)), _LONGEST)
    reports = {}
    for each in answers:
        reports[each.uid] = _Report([], [], [], [], [], [f"{user(each.uid)}: {each.problem}"],
                                    waits=False, status=1)  # fmt: skip
        if not each.problem:
            reports[each.uid] = _Report(**each.value)
    return reports


def _rows(reports: dict[int, _Report]) -> list[Row[dict[str, Any]]]:
    """Return a row for each action, which shows its JSON object."""
    return [
        Row(
            (cells.text(user(uid)), *(Cell(*cell) for cell in row)),
            {**user_fields(uid), **document},
        )
        for uid, report in reports.items()
        for row, document in zip(report.rows, report.documents, strict=True)
    ]


def _with_units(snapshot: Snapshot) -> Snapshot:
    """Add the units that systemd knows; the plan works without if no manager answers."""
    managers = {scope.manager for scope in snapshot.scopes if scope.manager}
    try:
        known = [calls.living_units(manager, names.UNITS) for manager in sorted(managers)]
    except ManagerError:
        return snapshot
    return dataclasses.replace(snapshot, units=frozenset().union(*known)) if known else snapshot


def _print(
    rows: list[Row[dict[str, Any]]],
    reports: dict[int, _Report],
    selector: Selector,
    view: View,
    *,
    dry_run: bool,
    users: bool,
) -> None:
    if rows:
        steps = Counter(row.cells[_STEP].text for row in rows)
        total = ", ".join(f"{count} {step}" for step, count in steps.most_common())
        view.print(rows, also={"USER"} if users else (), total=total)
    else:
        is_whole = selector == Selector() and not view.conditions
        click.echo("No scopes." if is_whole else "No scope matches.")
    for line in _lines(reports, dry_run=dry_run):
        click.echo(line)
    for report in reports.values():
        owned.OwnedReport(problems=tuple(report.problems)).print()


def _lines(reports: Mapping[int, _Report], *, dry_run: bool) -> Iterator[str]:
    """Yield the lines below the table: who ends the rest, what became of owned paths."""
    if any(report.waits for report in reports.values()):
        text = "No keeper runs: what ends later ends at the first reconcile after that."
        yield f"{text} A dry run begins no grace." if dry_run else text
    for report in reports.values():
        yield from map(safe, report.lines)


def _row(done: Done, *, dry_run: bool) -> list[str]:
    action = done.action
    return [
        action.scope.shown_session,
        action.scope.lane,
        action.scope.run or "-",
        action.member.name if action.member else "*",
        action.verdict.value,
        (NOTHING if done.other else action.step.value) if dry_run else done.outcome,
        _evidence(done),
    ]


def _evidence(done: Done) -> str:
    text = _reason(done)
    if done.change:
        text += f"; {done.change}"
    elif done.result is not None and done.result.problem:
        text += f"; {done.result.problem}"
    scope = done.action.scope
    is_forged = done.action.verdict is Verdict.FORGED
    if (is_forged or scope.is_unusable) and done.action.member is None:
        text += f"; end it: {scope.command_to_end(os.getuid())}"
    for left in done.result.remaining if done.result else ():
        text += f"; pid {left.pid} waits in {left.wchan} (state {left.state})"
    return text


def _reason(done: Done) -> str:
    """Return the evidence; of a stop by another process, what proves it."""
    if done.other is not None:
        return done.other.words
    return done.action.evidence + ("" if done.is_settled else ", which nothing proves")


def _document(done: Done) -> dict[str, Any]:
    action: Action = done.action
    return {
        "unit": action.scope.unit,
        "cgroup": action.scope.cgroup,
        "session": safe_json(action.scope.session),
        "label": safe_json(action.scope.label) or None,
        "lane": safe_json(action.scope.lane),
        "run": safe_json(action.scope.run) or None,
        "member": action.member.name if action.member else None,
        "member_id": action.member.member_id if action.member else None,
        "class": action.verdict.value,
        "action": action.step.value,
        "evidence": _reason(done),
        "details": _evidence(done),
        "outcome": done.outcome or None,
        "problem": (done.result.problem if done.result else done.change) or None,
        "stopper": None
        if done.other is None
        else {
            "pid": done.other.pid,
            "kills_in_s": None if done.other.left is None else round(done.other.left, 3),
        },
    }
