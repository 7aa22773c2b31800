"""``scopekeeper stop``."""

import os
from collections.abc import Sequence
from typing import Any

import click

from scopekeeper.cli import owned, unseen
from scopekeeper.cli.escaped import Handled, ended_too, left_earlier, lives_on
from scopekeeper.cli.examples import examples
from scopekeeper.cli.select_options import (
    nothing_matched,
    require_target,
    say_missing,
    select_targets,
    with_target_options,
)
from scopekeeper.cli.show import (
    answer,
    processes,
    safe,
    safe_json,
    unread_document,
    warn,
    warn_unread,
)
from scopekeeper.cli.stop_preview import Preview, preview
from scopekeeper.cli.users import uid_of, user, user_fields, with_all_users
from scopekeeper.errors import NOTHING_MATCHED, UsageError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.launch.leave_scope import step_out
from scopekeeper.lifecycle import observe, stop, stop_target
from scopekeeper.lifecycle.escaped import lives
from scopekeeper.quantities import duration
from scopekeeper.scope import names
from scopekeeper.scope.model import Identity, Snapshot
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.scope.selection import Selected, Selector
from scopekeeper.scope.snapshot import Reader

REMAINS = 5
ESCAPED = 6


@click.command(
    "stop",
    epilog=examples(
        "scopekeeper stop agent:main:main",
        "scopekeeper stop -s agent:main:main -n time --note 'new version'",
        "scopekeeper stop --mine --started-before 2026-01-31T12:00 --dry-run",
    ),
)
@with_target_options()
@click.option("--grace", metavar="DURATION", help="Time between SIGTERM and SIGKILL. Default: that "
              "of the launch, else 5s.")  # fmt: skip
@click.option("--note", metavar="TEXT", default="", help="Why, in your words, for the record and "
              "the history.")  # fmt: skip
@click.option("--reason", "old_note", metavar="TEXT", default="", hidden=True)
@with_all_users("Also those of other users; root only.")
@click.option("--escaped", is_flag=True, help="Also end processes that had left the scope, where "
              "that is proved.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only print what would be stopped, and change "
              "nothing.")  # fmt: skip
@click.option("--must-exist", is_flag=True, help="Exit 4 if nothing matched.")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
def command(
    selector: Selector,
    words: tuple[str, ...],
    grace: str | None,
    note: str,
    old_note: str,
    all_users: bool,
    escaped: bool,
    dry_run: bool,
    must_exist: bool,
    as_json: bool,
) -> None:
    """Stop scopes or single members, and verify that no process is left.

    A word is the id of a run, a session's key or id, a scope's unit, or a member's name, id or
    leaf; an ambiguous word takes the first of these. A name that several members share is refused;
    --name selects all of them. Options narrow down the words, and each other.

    Exit status: 0 all processes are gone, or nothing matched the options; 1 something was refused;
    2 wrong usage; 4 a word matched nothing (the others are stopped), or nothing matched and
    --must-exist; 5 processes remain that cannot be killed; 6 the scope is gone, but processes that
    had left it live.
    """
    try:
        seconds = None if grace is None else duration("grace", grace) / 1e6
    except ValueError as error:
        raise UsageError(str(error)) from None
    require_target(selector, words)
    mount = mount_point()
    snapshot = Reader(mount, unlock=not dry_run).snapshot(uid=uid_of(all_users=all_users))
    selected, missing = select_targets(snapshot, words, selector, "stop", says_missing=False)
    targets = [stop_target.target_of(each, seconds, as_judged=selector.judges) for each in selected]
    if dry_run:
        still: list[Handled] = []
        if escaped or missing or not selected:
            uid = uid_of(all_users=all_users)
            still = left_earlier(selector, words, uid, cause=None, warnings=[])
            missing = tuple(word for word in missing if not any(x.names(word) for x in still))
        units = {each.scope.unit for each in selected}
        paths = owned.due(mount, lambda unit: unit in units or _is_named(unit, words, selector))
        previews = preview(selected, targets)
        _print_preview(
            previews, missing, still, snapshot, paths, selector, users=all_users, as_json=as_json
        )
        raise SystemExit(NOTHING_MATCHED if missing or (must_exist and not previews) else 0)
    cause = Cause(Reason.STOPPED, note or old_note, observe.caller())
    warnings: list[str] = []
    results = stop.stop(
        targets, causes=[cause] * len(targets), warnings=warnings, step_out=step_out,
        ends_escaped=escaped,
    )  # fmt: skip
    earlier = []
    if escaped or missing or not results:
        earlier = left_earlier(
            selector, words, uid_of(all_users=all_users),
            cause=cause if escaped else None, warnings=warnings,
        )  # fmt: skip
        named = {each.pid for result in results for each in result.escaped}
        earlier = [each for each in earlier if each.escaped.pid not in named]
        missing = tuple(word for word in missing if not any(each.names(word) for each in earlier))
    say_missing(missing, snapshot, all_users=all_users)
    problem = unseen.collect()
    warn([text for text in dict.fromkeys([*warnings, problem]) if text])
    units = {each.scope.unit for each in selected}
    paths = owned.release(mount, lambda unit: unit in units or _is_named(unit, words, selector))
    for result in results:  # the monitor of a container ends with that
        result.escaped = tuple(filter(lives, result.escaped))
    if as_json:
        stopped = [_document(*pair) for pair in zip(selected, results, strict=True)]
        answer({"stopped": stopped, "missing": [safe_json(word) for word in missing],
                "escaped": [each.document for each in earlier],
                **unread_document(snapshot.unread, mount), **paths.document})  # fmt: skip
    else:
        for each, result in zip(selected, results, strict=True):
            click.echo(sentence(each, result, users=all_users))
        for left in earlier:
            click.echo(left.sentence)
        if not results and not missing and not earlier:
            click.echo(nothing_matched(selector, snapshot))
            warn_unread(snapshot.unread)
        paths.print()
    absent = bool(missing) or (must_exist and not results)
    lives_there = any(result.escaped for result in results) or not all(
        each.has_ended for each in earlier
    )
    raise SystemExit(_status(results, absent=absent, failed=paths.failed, escaped=lives_there))


def _print_preview(
    previews: Sequence[Preview],
    missing: tuple[str, ...],
    left: Sequence[Handled],
    snapshot: Snapshot,
    paths: owned.OwnedReport,
    selector: Selector,
    *,
    users: bool,
    as_json: bool,
) -> None:
    say_missing(missing, snapshot, all_users=users)
    if as_json:
        answer({"dry_run": True, "stopped": [each.document for each in previews],
                "missing": [safe_json(word) for word in missing],
                "escaped": [each.document for each in left],
                **unread_document(snapshot.unread, mount_point()), **paths.document})  # fmt: skip
        return
    for each in previews:
        click.echo(each.sentence(label(each.selected, users=users)))
    for process in left:
        click.echo(process.sentence)
    if not previews and not missing and not left:
        click.echo(nothing_matched(selector, snapshot))
        warn_unread(snapshot.unread)
    paths.print()


def _is_named(unit: str, words: tuple[str, ...], selector: Selector) -> bool:
    """Return whether words or a session mean the scope of this name, which may be gone already."""
    named = names.parse_unit(unit)
    if named is None or not named[3]:
        return False  # no scope's name, or one that was cut: its session is unknown
    if words:
        return unit in words or named[0] in words
    return (
        selector.knows_by_name
        and selector.session is not None
        and selector.matches_identity(Identity(*named[:3]))
    )


def _status(results: list[stop_target.Result], *, absent: bool, failed: bool, escaped: bool) -> int:
    outcomes = {result.outcome for result in results}
    if "remains" in outcomes:
        return REMAINS
    if "refused" in outcomes or failed:
        return 1
    if escaped:
        return ESCAPED
    return NOTHING_MATCHED if absent else 0


def label(selected: Selected, *, users: bool = False) -> str:
    """Return the name of a scope or member in a sentence; with users, also its user."""
    unit = safe(selected.scope.unit) + (f" of {user(selected.scope.uid)}" if users else "")
    return unit if selected.member is None else f"{unit}: {safe(selected.member.name)}"


def sentence(selected: Selected, result: stop_target.Result, *, users: bool = False) -> str:
    """Return the outcome in one line, or in several if processes remain or had left it."""
    lines = [_outcome(selected, result, users=users)]
    if result.problem and result.outcome in ("empty", "terminated", "killed"):
        lines.append(f"  {safe(result.problem)}")
    if result.escaped:
        count = processes(len(result.escaped))
        lines.append(f"  {count} that had left it {'lives' if count[:2] == '1 ' else 'live'} on:")
    lines += [f"  {lives_on(each)}" for each in result.escaped]
    if result.ended_escaped:
        lines.append(f"  {processes(len(result.ended_escaped))} that had left it:")
    lines += [f"  {ended_too(*pair)}" for pair in result.ended_escaped]
    return "\n".join(lines)


def _outcome(selected: Selected, result: stop_target.Result, *, users: bool) -> str:
    name, after = label(selected, users=users), f"{result.milliseconds:.0f} ms"
    if result.outcome == "refused":
        text = f"{name}: skipped: {safe(result.problem)}"
        if selected.member is not None and selected.member.problem:
            text += f"; end it with its scope: scopekeeper stop {safe(selected.scope.unit)}"
        elif selected.scope.damaged:
            text += f"; end it: {safe(selected.scope.command_to_end(os.getuid()))}"
        return text
    if result.outcome == "empty":
        if selected.member is not None and selected.member.waits:
            return f"{name}: its place is removed; no process had come"
        return f"{name}: was already empty"
    if result.outcome == "changed":
        return f"{name}: left alone: {result.problem}"
    if result.outcome == "terminated":
        return f"{name}: gone after {after}; {processes(result.terminated)} terminated"
    if result.outcome == "killed":
        more = " and all unreadable ones" if result.unread else ""
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


def _document(selected: Selected, result: stop_target.Result) -> dict[str, Any]:
    return {
        "unit": selected.scope.unit,
        **user_fields(selected.scope.uid),
        "member": selected.member.name if selected.member else None,
        "member_id": selected.member.member_id if selected.member else None,
        "outcome": result.outcome,
        "terminated": result.terminated,
        "killed": result.killed,
        "milliseconds": round(result.milliseconds, 1),
        "problem": result.problem or None,
        "escaped": [
            {
                "pid": each.pid,
                "command": safe_json(each.command),
                "cgroup": safe_json(each.cgroup),
                "uid": each.uid,
                "why_not": each.why_not or None,
            }
            for each in result.escaped
        ],
        "ended_escaped": [
            {
                "pid": each.pid,
                "command": safe_json(each.command),
                "cgroup": safe_json(each.cgroup),
                "uid": each.uid,
                "outcome": outcome,
            }
            for each, outcome in result.ended_escaped
        ],
        "remaining": [
            {"pid": r.pid, "state": r.state, "wchan": r.wchan, "command": r.command}
            for r in result.remaining
        ],
    }
