"""Owned paths in the answers of ``stop`` and ``reconcile``; nothing is loaded where there are none.

What goes wrong here is said and shows in the exit status; it keeps nothing from being stopped.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from scopekeeper import state
from scopekeeper.cli.show import safe, safe_json
from scopekeeper.errors import StateError

if TYPE_CHECKING:
    from scopekeeper.owned.store import Damaged


@dataclass(frozen=True, slots=True)
class Paths:
    """What is to be said of owned paths."""

    documents: tuple[dict[str, Any], ...] = ()
    lines: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    failed: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """The part of a JSON answer."""
        return {"owned": list(self.documents), "owned_problems": list(self.problems)}

    def print(self) -> None:
        """Say it, a line each; problems on stderr."""
        for line in self.lines:
            click.echo(safe(line))
        for problem in self.problems:
            click.echo(f"scopekeeper: {safe(problem)}", err=True)


def release(mount: str, units: Collection[str] | None = None) -> Paths:
    """Remove what is due; only what processes of these scope units had, where they are given."""
    if not _any() or (units is not None and not units):
        return Paths()
    from scopekeeper.owned.release import release_due, sentences

    only = None if units is None else lambda claim: claim.holder.unit in units
    report = release_due(mount, only=only)
    problems = [report.problem] if report.problem else []
    damaged = report.damaged if units is None else ()
    return Paths(
        tuple(
            {
                "path": safe_json(outcome.claim.path),
                "outcome": outcome.what,
                "evidence": safe_json(outcome.evidence),
                "attempts": outcome.claim.attempts,
                "problem": safe_json(outcome.problem) or None,
            }
            for outcome in report.done
        ),
        tuple(sentences(report.done)),
        tuple(problems + damages(damaged)),
        bool(problems or damaged) or any(o.what == "failed" for o in report.done),
    )


def due(mount: str) -> Paths:
    """Say what release would remove."""
    if not _any():
        return Paths()
    from scopekeeper.owned.release import look
    from scopekeeper.owned.store import ClaimStore

    store = ClaimStore.find()
    if store is None:
        return Paths()
    try:
        verdicts, damaged = look(store, mount)
    except StateError as error:
        return Paths(problems=(str(error),), failed=True)
    meant = [verdict for verdict in verdicts if verdict.due]
    return Paths(
        tuple(
            {
                "path": safe_json(verdict.claim.path),
                "outcome": None,
                "evidence": safe_json(verdict.evidence),
                "attempts": verdict.claim.attempts,
                "problem": safe_json(verdict.claim.problem) or None,
            }
            for verdict in meant
        ),
        tuple(f"{verdict.claim.path}: would be removed: {verdict.evidence}" for verdict in meant),
        tuple(damages(damaged)),
        bool(damaged),
    )


def damages(damaged: "Collection[Damaged]") -> list[str]:
    """Return one sentence on each claim that cannot be read."""
    return [
        f"{each.file}: {each.problem}; it is left alone, and so is the path that it names"
        for each in damaged
    ]


def _any() -> bool:
    try:
        return os.path.lexists(state.directory() / "owned")
    except StateError:
        return False  # nothing was handed over where nothing can be kept
