"""Stops what a command names, and then what was launched from that, in rounds until none lives.

A launch may be on its way while its launcher is stopped: so each round looks again. Nothing is
found but by a record that names the launcher (``scope.launched``), and nothing is stopped but a
whole leaf. What was started to outlive its launcher stays.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Sequence

from scopekeeper.data import dataclass
from scopekeeper.lifecycle.stop import stop
from scopekeeper.lifecycle.stop_target import Result, Target, target_of
from scopekeeper.scope.launched import Launched, Named, ends_with_launcher, key_of
from scopekeeper.scope.model import Scope, Snapshot
from scopekeeper.scope.reason import Cause, Stopper
from scopekeeper.scope.selection import Selected

_ROUNDS = 64
SETTLE_SECONDS, _PAUSE = 2.0, 0.01
"""How long a launch may take from its scope's making, by systemd, to its own leaf there."""
_OVER = ("empty", "terminated", "killed")


@dataclass(frozen=True, slots=True)
class Part:
    """One scope or member that is to be stopped; launched says why, if it is not itself named."""

    selected: Selected
    target: Target
    launched: Launched | None = None


def parts(named: Named, snapshot: Snapshot, grace: float | None = None) -> list[Part]:
    """Return what is named, and what was launched from that; grace is in seconds."""
    judges = named.selector.judges
    own = [Part(each, target_of(each, grace, as_judged=judges)) for each in named.selected]
    return own + _launched(named.launched(snapshot), grace)


def stop_all(
    named: Named,
    first: Sequence[Part],
    look: Callable[[], Snapshot],
    *,
    grace: float | None,
    cause: Cause,
    warnings: list[str],
    watched: Collection[str] | None = None,
    step_out: Callable[[], None],
    ends_escaped: bool = False,
    asker: Stopper | None = None,
    explained: set[str] | None = None,
) -> list[tuple[Part, Result]]:
    """Stop these parts of what is named, and what is launched from them meanwhile.

    look returns a new snapshot. The rest is as for ``stop.stop``. Returns what was proved of each.
    """
    done: list[tuple[Part, Result]] = []
    round_, found = 0, list(first)
    while found and round_ < _ROUNDS:
        results = stop(
            [each.target for each in found],
            causes=[_cause(cause, each.launched) for each in found],
            warnings=warnings,
            watched=watched,
            step_out=step_out,
            ends_escaped=ends_escaped,
            asker=asker,
            explained=explained,
        )
        done += zip(found, results, strict=True)
        round_, found = round_ + 1, _next(named, done, look, grace)
    return done


def _next(
    named: Named,
    done: Sequence[tuple[Part, Result]],
    look: Callable[[], Snapshot],
    grace: float | None,
) -> list[Part]:
    """Return what lives that was launched from what is stopped; waits for launches on their way."""
    seen = {key_of(part.target.directory) for part, _ in done if part.target.is_member}
    over = {
        key_of(part.target.directory)
        for part, result in done
        if part.target.is_member and result.outcome in _OVER
    }
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        snapshot = look()
        found = _launched(named.launched(snapshot, over, seen), grace)
        if found or time.monotonic() > until or not is_one_arriving(snapshot):
            return found
        time.sleep(_PAUSE)


def _launched(found: Sequence[Launched], grace: float | None) -> list[Part]:
    return [
        Part(each.selected, target_of(each.selected, grace, as_judged=True), each)
        for each in found
        if ends_with_launcher(each.member)
    ]


def is_one_arriving(snapshot: Snapshot) -> bool:
    """Return whether systemd has moved a launch into its new scope, and it is in no leaf yet.

    It may have made its leaf already.
    """
    return any(_is_new(scope) and _unplaced(scope) for scope in snapshot.scopes)


def _unplaced(scope: Scope) -> bool:
    """Return whether a process is outside of every leaf, but for those that hold a place."""
    return not {each.holder for each in scope.members}.issuperset(scope.strays)


def _is_new(scope: Scope) -> bool:
    if not scope.unrecorded:
        return scope.age < SETTLE_SECONDS
    with contextlib.suppress(OSError):
        return time.time() - os.stat(scope.directory).st_ctime < SETTLE_SECONDS
    return False


def _cause(cause: Cause, launched: Launched | None) -> Cause:
    """Return the cause for a part; of one that is not named itself, with where it comes from."""
    if launched is None:
        return cause
    text = f"{cause.text}; {launched.origin}" if cause.text else launched.origin
    return Cause(cause.reason, text, cause.stopper)
