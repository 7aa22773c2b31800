"""The error of a stop after which something lives on: what, where, and what ends it."""

from collections.abc import Sequence

from scopekeeper.errors import RemainsError
from scopekeeper.lifecycle.stop_target import Result
from scopekeeper.safe_text import safe

_LONGEST = 60
"""Characters of a command line."""
_LOOK = "look with: scopekeeper ls --members"
_LEFT = (
    "look with: scopekeeper ls --escaped; scopekeeper.stop(session=..., escaped=True) ends what is "
    "proved to be a leftover"
)

_OTHER = "see what it is, and end it with kill"


def check(results: Sequence[Result], others: Sequence[str] = ()) -> None:
    """Raise RemainsError if something lives on, by the results or by other sentences."""
    words = [*filter(None, map(_words, results)), *others]
    if words:
        raise RemainsError(safe("; ".join(words)), _hint(results), results)


def _hint(results: Sequence[Result]) -> str:
    if any(each.escaped for each in results):
        return _LEFT
    return _LOOK if any(map(is_left, results)) else _OTHER


def is_left(result: Result) -> bool:
    """Return whether something lives on in what was to be stopped."""
    return result.outcome in ("remains", "refused")


def _words(result: Result) -> str:
    """Return what is left of one target; '' if nothing is."""
    target = result.target
    name = f"{target.leaf} in {target.unit}" if target.leaf else target.unit
    found = []
    if result.outcome == "refused":
        found.append(f"{name} was skipped: {result.problem}")
    elif result.outcome == "remains":
        left = [
            f"pid {x.pid} ({x.command[:_LONGEST]}) in state {x.state}" for x in result.remaining
        ]
        found.append(f"{name} cannot be killed: {', '.join(left) or 'something'}")
    for gone in result.escaped:
        why_not = f" ({gone.why_not})" if gone.why_not else ""
        found.append(
            f"pid {gone.pid} ({gone.command[:_LONGEST]}) had left {name} and lives in "
            f"{gone.cgroup}{why_not}"
        )
    return "; ".join(found)
