"""``scopekeeper stop``."""

import dataclasses
import os
from typing import Any

import click

from scopekeeper.cli import owned, unseen
from scopekeeper.cli.selecting import chosen, require, selecting
from scopekeeper.cli.show import (
    answer,
    processes,
    safe,
    safe_json,
    say_unread,
    unread_document,
    warn,
)
from scopekeeper.cli.users import uid_of, user, with_all_users
from scopekeeper.errors import UsageError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.launch.leave_scope import step_out
from scopekeeper.lifecycle import stop
from scopekeeper.quantities import duration, moment
from scopekeeper.scope.mine import find_own
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.scope.records import LIFETIMES
from scopekeeper.scope.selection import Selected, Selector
from scopekeeper.scope.snapshot import Reader

NOTHING_MATCHED = 4
REMAINS = 5


@click.command("stop")
@selecting("Members of this name; the others stay.")
@click.option("--owner", metavar="UNIT|PID", help="Members that belong to this gateway.")
@click.option("--mine", is_flag=True, help="Only members of the calling gateway: of its service, "
              "in any life of it, or of its process; else $SCOPEKEEPER_OWNER.")  # fmt: skip
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
@with_all_users("Those of other users too; for root.")
@click.option("--must-exist", is_flag=True, help="Exit 4 where nothing matched.")
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object.")
def command(
    selector: Selector,
    words: tuple[str, ...],
    owner: str | None,
    mine: bool,
    lifetimes: tuple[str, ...],
    started_before: str | None,
    grace: str | None,
    reason: str,
    all_users: bool,
    must_exist: bool,
    as_json: bool,
) -> None:
    """Stop scopes or single members, and prove that nothing of them lives.

    A word is the id of a run, a session's key or id, a scope's unit, or a member's name, id or
    leaf; where it can be several, the first of these. The name of several members is refused:
    --name means all of them. Options narrow it down, and each other.

    Exit status: 0 all is gone, or nothing matched the options; 1 something was refused; 2 the call
    is wrong; 4 a word means nothing (the others are stopped), or nothing matched and --must-exist;
    5 processes remain that cannot be killed.
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
    require(selector, words, "stop", "--owner", "--mine")
    mount = mount_point()
    snapshot = Reader(mount, unlock=True).snapshot(uid=uid_of(all_users=all_users))
    selected, missing = chosen(snapshot, words, selector, "stop")
    targets = [stop.target_of(each, seconds) for each in selected]
    cause, warnings = Cause(Reason.STOPPED, reason), list[str]()
    results = stop.stop(
        targets, causes=[cause] * len(targets), warnings=warnings, step_out=step_out
    )
    problem = unseen.collect()
    warn([text for text in dict.fromkeys([*warnings, problem]) if text])
    paths = owned.release(mount, {each.scope.unit for each in selected})
    if as_json:
        stopped = [_document(*pair) for pair in zip(selected, results, strict=True)]
        answer({"stopped": stopped, "missing": [safe_json(word) for word in missing],
                **unread_document(snapshot.unread, mount), **paths.document})  # fmt: skip
    else:
        for each, result in zip(selected, results, strict=True):
            click.echo(sentence(each, result, users=all_users))
        if not results and not missing:
            click.echo("Nothing matched.")
            say_unread(snapshot.unread)
        paths.print()
    absent = bool(missing) or (must_exist and not results)
    raise SystemExit(_status(results, absent=absent, failed=paths.failed))


def _status(results: list[stop.Result], *, absent: bool, failed: bool) -> int:
    outcomes = {result.outcome for result in results}
    if "remains" in outcomes:
        return REMAINS
    if "refused" in outcomes or failed:
        return 1
    return NOTHING_MATCHED if absent else 0


def label(selected: Selected, *, users: bool = False) -> str:
    """Return how a scope, or a member of it, is called in a sentence; users: with its user."""
    unit = safe(selected.scope.unit) + (f" of {user(selected.scope.uid)}" if users else "")
    return unit if selected.member is None else f"{unit}: {safe(selected.member.name)}"


def sentence(selected: Selected, result: stop.Result, *, users: bool = False) -> str:
    """Return one line, or more where processes remain, on what was proved."""
    name, after = label(selected, users=users), f"{result.milliseconds:.0f} ms"
    if result.outcome == "refused":
        text = f"{name}: left alone: {safe(result.problem)}"
        if selected.member is not None and selected.member.problem:
            text += f"; end it with its scope: scopekeeper stop {safe(selected.scope.unit)}"
        elif selected.scope.damaged:
            text += f"; end it: {safe(selected.scope.command_to_end(os.getuid()))}"
        return text
    if result.outcome == "empty":
        return f"{name}: nothing lived in it"
    if result.outcome == "terminated":
        return f"{name}: gone after {after}; {processes(result.terminated)} terminated"
    if result.outcome == "killed":
        more = " and all that could not be read" if result.unread else ""
        return (
            f"{name}: gone after {after}; {processes(result.terminated)} terminated, "
            f"{result.killed} of them{more} killed"
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
        "uid": selected.scope.uid,
        "user": user(selected.scope.uid),
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
