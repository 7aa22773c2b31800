"""``scopekeeper label``."""

import os

import click

from scopekeeper.cli.examples import examples
from scopekeeper.cli.select_options import (
    require_target,
    say_nothing_matched,
    select_targets,
    status,
    with_target_options,
)
from scopekeeper.cli.show import answer, safe, safe_json
from scopekeeper.cli.users import user_fields
from scopekeeper.errors import UsageError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import label
from scopekeeper.lifecycle.label import Labelled
from scopekeeper.scope.nearby import about
from scopekeeper.scope.selection import Selector
from scopekeeper.scope.snapshot import Reader


@click.command(
    "label",
    epilog=examples(
        "scopekeeper label codex-257 --as codex:0199a213",
        "scopekeeper label -s codex:0199a213 --clear",
    ),
)
@with_target_options()
@click.option("--as", "given", metavar="LABEL", help="The label: a name that a session can "
              "have, such as codex:ID.")  # fmt: skip
@click.option("--clear", is_flag=True, help="Remove the label.")
@click.option("--unnamed", is_flag=True, help="Only scopes without a label whose session is named "
              "after their owner, such as codex-257.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
def command(
    selector: Selector,
    words: tuple[str, ...],
    given: str | None,
    clear: bool,
    unnamed: bool,
    as_json: bool,
) -> None:
    """Give living scopes a second name of their session.

    For a client that names its session only after its servers have started: the scope's own name
    cannot change. The label stands where the session does, and selects as the session does, in the
    history too. It counts for the whole scope, also for members that join later, and for the
    scopes that the session gets later from the same owner. Another label replaces it. `run` does
    not take a label as a session.

    Exit status: 0 done; 1 something was refused; 2 wrong usage; 4 nothing matched, or a word
    matched nothing.
    """
    wanted = _wanted(given, clear=clear)
    require_target(selector, words)
    reader = Reader(mount_point(), unlock=True)
    snapshot = reader.snapshot(uid=os.getuid(), about=about(words, selector))
    selected, missing = select_targets(snapshot, words, selector, "label")
    if unnamed:
        selected = [each for each in selected if label.is_unnamed(each.scope)]
    done = label.label(selected, wanted, snapshot)
    if as_json:
        answer({"label": safe_json(wanted) or None, "scopes": [_document(each) for each in done],
                "missing": [safe_json(word) for word in missing]})  # fmt: skip
    else:
        for each in done:
            click.echo(f"{safe(each.scope.unit)}: {safe(_outcome(each))}")
        if not done and not missing:
            say_nothing_matched(selector, snapshot)
    raise SystemExit(status([each.problem for each in done], missing))


def _wanted(given: str | None, *, clear: bool) -> str:
    """Return the label to write, '' to remove it; raises UsageError."""
    if clear == (given is not None):
        problem = "--as and --clear exclude each other" if clear else "no label given"
        raise UsageError(problem, "give --as LABEL, or --clear to remove the label")
    try:
        return "" if given is None else label.check(given)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _outcome(done: Labelled) -> str:
    before, now = done.scope.label, done.label
    if done.problem:
        return f"skipped: {done.problem}"
    if not now:
        return f"no longer labelled {before}" if before else "has no label"
    instead = f", no longer {before}" if before not in ("", now) else ""
    return f"labelled {now}{instead}"


def _document(done: Labelled) -> dict[str, object]:
    return {
        "unit": safe_json(done.scope.unit),
        **user_fields(done.scope.uid),
        "session": safe_json(done.scope.session),
        "label": safe_json(done.label) or None,
        "before": safe_json(done.scope.label) or None,
        "labelled": not done.problem,
        "problem": done.problem or None,
    }
