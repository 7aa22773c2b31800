"""``scopekeeper stop``."""

import dataclasses
import os
from typing import Any

import click

from scopekeeper import stop
from scopekeeper.cli import owned
from scopekeeper.cli.selecting import require, selecting
from scopekeeper.cli.show import answer, processes, safe, warn
from scopekeeper.errors import UsageError
from scopekeeper.history import Cause, Reason
from scopekeeper.launch.aside import step_out
from scopekeeper.launch.place import Caller, mount_point
from scopekeeper.launch.request import LIFETIMES
from scopekeeper.mine import find_own
from scopekeeper.quantities import duration, moment
from scopekeeper.selection import Selected, Selector, select
from scopekeeper.snapshot import Reader

NOTHING_MATCHED = 4
REMAINS = 5


@click.command("stop")
@selecting("Members of this name; the others stay.")
@click.option("--owner", metavar="UNIT|PID", help="Members that belong to this gateway.")
@click.option("--mine", is_flag=True, help="Only members of the calling gateway: of its "
              "service, in any life of it, or of its process; $SCOPEKEEPER_OWNER names another.")  # fmt: skip
@click.option(
    "--lifetime",
    "lifetimes",
    multiple=True,
    type=click.Choice(LIFETIMES),
    help="Only scopes of this lifetime. May be given again.",
)
@click.option("--started-before", metavar="TIME", help="Spare what was started at this time or "
              "later (ISO 8601, or @SECONDS).")  # fmt: skip
@click.option("--grace", metavar="DURATION", help="Time between SIGTERM and the kill; else that "
              "of the launch, else 5s.")  # fmt: skip
@click.option("--reason", metavar="TEXT", default="", help="Your words; kept in the record and in "
              "the history.")  # fmt: skip
@click.option("--must-exist", is_flag=True, help="Exit 4 where nothing matched.")
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object.")
def command(
    selector: Selector,
    owner: str | None,
    mine: bool,
    lifetimes: tuple[str, ...],
    started_before: str | None,
    grace: str | None,
    reason: str,
    must_exist: bool,
    as_json: bool,
) -> None:
    """Stop scopes or single members, and prove that nothing of them lives.

    Selectors narrow each other down. Exit status: 0 all is gone, or nothing matched; 1 something
    was refused; 4 nothing matched and --must-exist; 5 processes remain that cannot be killed.
    """
    try:
        seconds = None if grace is None else duration("grace", grace) / 1e6
        before = None if started_before is None else moment("started-before", started_before)
    except ValueError as error:
        raise UsageError(str(error)) from None
    selector = dataclasses.replace(
        selector,
        owner=owner,
        own=find_own(Caller()) if mine else None,
        lifetimes=frozenset(lifetimes),
        started_before=before,
    )
    require(selector, "stop", "--owner", "--mine")
    mount = mount_point()
    uid = os.getuid()
    selected = select(Reader(mount).snapshot(uid=uid or None), selector)
    targets = [stop.target_of(each, seconds) for each in selected]
    cause, warnings = Cause(Reason.STOPPED, reason), list[str]()
    results = stop.stop(
        targets, causes=[cause] * len(targets), warnings=warnings, step_out=step_out
    )
    warn(warnings)
    paths = owned.release(mount, {each.scope.unit for each in selected})
    if as_json:
        stopped = [_document(*pair) for pair in zip(selected, results, strict=True)]
        answer({"stopped": stopped, **paths.document})
    else:
        for each, result in zip(selected, results, strict=True):
            click.echo(sentence(each, result))
        if not results:
            click.echo("Nothing matched.")
        paths.print()
    raise SystemExit(_status(results, must_exist=must_exist, failed=paths.failed))


def _status(results: list[stop.Result], *, must_exist: bool, failed: bool) -> int:
    outcomes = {result.outcome for result in results}
    if "remains" in outcomes:
        return REMAINS
    if "refused" in outcomes or failed:
        return 1
    return NOTHING_MATCHED if must_exist and not results else 0


def label(selected: Selected) -> str:
    """Return how a scope, or a member of it, is called in a sentence."""
    unit = safe(selected.scope.unit)
    return unit if selected.member is None else f"{unit}: {safe(selected.member.name)}"


def sentence(selected: Selected, result: stop.Result) -> str:
    """Return one line, or more where processes remain, on what was proved."""
    name, after = label(selected), f"{result.milliseconds:.0f} ms"
    if result.outcome == "refused":
        text = f"{name}: left alone: {safe(result.problem)}"
        if selected.scope.damaged:
            text += f"; end it: {safe(selected.scope.command_to_end(os.getuid()))}"
        return text
    if result.outcome == "empty":
        return f"{name}: nothing lived in it"
    if result.outcome == "terminated":
        return f"{name}: gone after {after}; {processes(result.terminated)} terminated"
    if result.outcome == "killed":
        return (
            f"{name}: gone after {after}; {processes(result.terminated)} terminated, "
            f"{result.killed} of them killed"
        )
    lines = [f"{name}: {processes(len(result.remaining))} cannot be killed after {after}:"]
    lines += [
        f"  pid {left.pid} in state {left.state}, waiting in {left.wchan}: {safe(left.command)}"
        for left in result.remaining
    ]
    return "\n".join(lines)


def _document(selected: Selected, result: stop.Result) -> dict[str, Any]:
    return {
        "unit": selected.scope.unit,
        "member": selected.member.name if selected.member else None,
        "member_id": selected.member.member_id if selected.member else None,
        "outcome": result.outcome,
        "terminated": result.terminated,
        "killed": result.killed,
        "milliseconds": round(result.milliseconds, 1),
        "problem": result.problem or None,
        "remaining": [
            {"pid": r.pid, "state": r.state, "wchan": r.wchan, "command": r.command}
            for r in result.remaining
        ],
    }
