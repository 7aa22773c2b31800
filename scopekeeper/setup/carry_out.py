"""Runs the steps of ``setup``: find, do with a record, undo by the record."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from scopekeeper.errors import ScopekeeperError
from scopekeeper.setup.record import Entry, Record
from scopekeeper.setup.step import Found, Machine, Need, Outcome, Step

Report = Callable[[Outcome], None]
"""Takes the outcome of one change as soon as it is made."""


def find(steps: Sequence[Step], machine: Machine) -> list[Found]:
    """Return what all steps find; what a step cannot find out needs a hand."""
    found = []
    for step in steps:
        try:
            found += step.find(machine)
        except ScopekeeperError as error:
            found.append(Found(step.name, step.name, Need.HAND, error.message, command=error.hint))
    return found


def do(
    steps: Sequence[Step],
    machine: Machine,
    found: Sequence[Found],
    record: Record,
    report: Report,
) -> list[str]:
    """Make all changes that were found, each after its entry in the record; return failures.

    A failure of one change does not stop the others. Raises StateError if one cannot be recorded.
    """
    by_name = {step.name: step for step in steps}
    failures = []
    for each in found:
        if each.need is not Need.CHANGE:
            continue
        try:
            late = each.late_facts() if each.late_facts else {}
        except ScopekeeperError as error:
            failures.append(f"{each.what}: {error}")
            continue
        now = replace(each, facts=each.facts | late)
        entry = Entry(now.step, now.target, now.facts)
        record.add(entry)
        try:
            done = by_name[now.step].do(machine, now)
        except ScopekeeperError as error:
            record.drop(entry)
            failures.append(f"{each.what}: {error}")
        else:
            report(done)
    return failures


def undo(
    steps: Sequence[Step], machine: Machine, record: Record, report: Report, *, dry_run: bool
) -> list[str]:
    """Take all recorded changes back, the newest first; return failures, which stay recorded."""
    by_name = {step.name: step for step in steps}
    failures = []
    for entry in reversed(record.entries.copy()):
        step = by_name.get(entry.step)
        if step is None:
            failures.append(f"{entry.target}: this version has no step {entry.step!r} to undo")
            continue
        try:
            undone = step.undo(machine, entry.target, entry.facts, dry_run=dry_run)
        except ScopekeeperError as error:
            text = str(error)
            is_named = text.startswith(entry.target)
            failures.append(text if is_named else f"{entry.target}: {text}")
            continue
        except (LookupError, TypeError, ValueError, RecursionError):
            failures.append(f"{entry.target}: its entry in {record.path} has been changed")
            continue
        if not dry_run:
            record.drop(entry)
        report(undone)
    return failures
