"""Removes owned paths for ``stop`` and ``reconcile``; loads nothing if no paths are owned.

A failure here is printed and changes the exit status, but never prevents a stop.
"""

from collections.abc import Callable, Collection

from scopekeeper import state
from scopekeeper.cli.colour import say
from scopekeeper.cli.show import safe, safe_json
from scopekeeper.data import dataclass
from scopekeeper.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scopekeeper.owned.store import Damaged


@dataclass(frozen=True, slots=True)
class OwnedReport:
    """The outcomes for owned paths, ready to print."""

    documents: "tuple[dict[str, Any], ...]" = ()
    lines: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    failed: bool = False

    @property
    def document(self) -> "dict[str, Any]":
        """Its keys of the JSON object."""
        return {"owned": list(self.documents), "owned_problems": list(self.problems)}

    def print(self) -> None:
        """Print one line for each outcome; problems on stderr."""
        for line in self.lines:
            say(safe(line))
        for problem in self.problems:
            say(f"scopekeeper: {safe(problem)}", err=True)


def release(mount: str, is_meant: Callable[[str], bool] | None = None) -> OwnedReport:
    """Remove the paths that are due; with is_meant, only those of a unit for which it is true."""
    if not _any():
        return OwnedReport()
    from scopekeeper.owned.release import release_due, sentences

    only = None if is_meant is None else lambda claim: is_meant(claim.holder.unit)
    report = release_due(mount, only=only)
    problems = [report.problem] if report.problem else []
    damaged = report.damaged if is_meant is None else ()
    return OwnedReport(
        tuple(
            {
                "path": safe_json(outcome.claim.path),
                "outcome": outcome.what,
                "evidence": safe_json(outcome.evidence),
                "attempts": outcome.claim.attempts,
                "problem": safe_json(outcome.problem) or None,
                "scratch_bytes": None if outcome.scratch is None else outcome.scratch.bytes,
            }
            for outcome in report.done
        ),
        tuple(sentences(report.done)),
        tuple(problems + damages(damaged)),
        bool(problems or damaged) or any(o.what == "failed" for o in report.done),
    )


def due(mount: str, is_meant: Callable[[str], bool] | None = None) -> OwnedReport:
    """Report the paths that release would remove; is_meant is as for release."""
    if not _any():
        return OwnedReport()
    from scopekeeper.owned.release import look
    from scopekeeper.owned.store import ClaimStore

    try:
        store = ClaimStore.find()
        if store is None:
            return OwnedReport()
        verdicts, damaged = look(store, mount)
    except StateError as error:
        return OwnedReport(problems=(str(error),), failed=True)
    verdicts = [
        verdict
        for verdict in verdicts
        if verdict.due and (is_meant is None or is_meant(verdict.claim.holder.unit))
    ]
    return OwnedReport(
        tuple(
            {
                "path": safe_json(verdict.claim.path),
                "outcome": None,
                "evidence": safe_json(verdict.evidence),
                "attempts": verdict.claim.attempts,
                "problem": safe_json(verdict.claim.problem) or None,
                "scratch_bytes": None,
            }
            for verdict in verdicts
        ),
        tuple(f"{each.claim.title}: would be removed: {each.evidence}" for each in verdicts),
        tuple(damages(damaged)),
        bool(damaged),
    )


def damages(damaged: "Collection[Damaged]") -> list[str]:
    """Return one sentence for each claim that cannot be read."""
    return [f"{each.file}: {each.problem}; skipped, its path is not removed" for each in damaged]


def _any() -> bool:
    try:
        return state.has("owned")
    except StateError:
        return False  # without a state folder no path can have been handed over
