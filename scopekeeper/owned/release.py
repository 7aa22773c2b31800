"""Removes the paths whose last user is gone: call ``release_due`` whenever something has ended.

In this order, each step found and taken up again after a crash:

1. Under the lock of the claims: which are due; each due path is renamed, inside of its folder, to
   ``.scopekeeper-gone.<id>``. A claim that is made later no longer finds it.
2. What was set aside is removed.
3. The claim is dropped; or it stays, with the reason of the failure.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scopekeeper.errors import RefusedError, StateError
from scopekeeper.kernel import mounts
from scopekeeper.owned import check, tree
from scopekeeper.owned.claim import Claim
from scopekeeper.owned.holders import Here
from scopekeeper.owned.plan import ClaimVerdict, judge
from scopekeeper.owned.store import ClaimStore, Damaged

_FIRST_RETRY, _LONGEST_RETRY = 5.0, 600.0
_LOOK_AGAIN = 30.0
"""Seconds until another look at holders whose end nothing tells of."""


@dataclass(frozen=True, slots=True)
class ReleaseOutcome:
    """What became of one claim that was due."""

    claim: Claim
    what: str
    """removed; gone (somebody else had removed it); changed (another thing stands there now, which
    is left alone); failed (it is kept, and tried again)."""
    evidence: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a release did."""

    done: tuple[ReleaseOutcome, ...] = ()
    damaged: tuple[Damaged, ...] = ()
    """Claims that cannot be read; they are kept."""
    problem: str = ""
    """Why nothing could be done at all."""
    try_again: float | None = None
    """Seconds after which to call this again even if no cgroup empties; None where that would be
    of no use."""

    @property
    def failed(self) -> bool:
        """Whether something is left that should have been done."""
        return bool(self.problem or self.damaged) or any(o.what == "failed" for o in self.done)


def look(store: ClaimStore, mount: str) -> tuple[list[ClaimVerdict], list[Damaged]]:
    """Return every claim with its verdict, and what cannot be read; raises StateError."""
    claims, damaged = store.read()
    return judge(Here(mount).states(claims)), damaged


def release_due(mount: str, *, only: Callable[[Claim], bool] | None = None) -> Report:
    """Remove every path that is due and return what was done; raises nothing but bugs.

    mount is where cgroup2 is mounted; only narrows it down to claims of interest.
    """
    try:
        store = ClaimStore.find()
        if store is None:
            return Report()
        with store.releasing():
            return _release(store, Here(mount), only)
    except (StateError, OSError) as error:
        return Report(problem=str(error), try_again=_FIRST_RETRY)


def _release(store: ClaimStore, here: Here, only: Callable[[Claim], bool] | None) -> Report:
    done: list[ReleaseOutcome] = []
    waiting: list[ClaimVerdict] = []
    with store.locked():
        store.sweep()
        claims, damaged = store.read()
        states = here.states(claims)
        for verdict in judge(states):
            if not verdict.due or (only is not None and not only(verdict.claim)):
                continue
            outcome = _set_aside(verdict, here)
            if outcome is None:
                waiting.append(verdict)
            else:
                done.append(outcome)
    done += [_finish(verdict) for verdict in waiting]
    with store.locked():
        done = [_settle(store, outcome) for outcome in done]
    pauses = [_pause(outcome.claim.attempts) for outcome in done if outcome.what == "failed"]
    pauses += [_LOOK_AGAIN for _, state in states if state.unwatched]
    return Report(tuple(done), tuple(damaged), try_again=min(pauses, default=None))


def _pause(attempts: int) -> float:
    return float(min(_FIRST_RETRY * 2 ** min(max(attempts - 1, 0), 16), _LONGEST_RETRY))


def _set_aside(verdict: ClaimVerdict, here: Here) -> ReleaseOutcome | None:
    """Begin a removal; returns what came of it where it does not go on."""
    claim = verdict.claim
    same_boot = claim.holder.boot_id == here.boot_id
    try:
        check.protect(claim.path)
        _find_mount(claim)
        what = tree.set_aside(claim, same_boot=same_boot)
    except (OSError, RefusedError) as error:
        return _failed(verdict, error)
    return None if what == "aside" else ReleaseOutcome(claim, what, verdict.evidence)


def _find_mount(claim: Claim) -> None:
    """Make sure that what the path was on is mounted, and that nothing is mounted on it now."""
    on = mounts.above(claim.path)
    inside = mounts.inside(claim.path)
    if inside:
        raise RefusedError(f"{inside[0]} is mounted")
    if on != claim.thing.mount:
        raise RefusedError(f"it was on {claim.thing.mount}, which is not mounted here now")


def _finish(verdict: ClaimVerdict) -> ReleaseOutcome:
    try:
        tree.finish(verdict.claim)
    except OSError as error:
        return _failed(verdict, error)
    return ReleaseOutcome(verdict.claim, "removed", verdict.evidence)


def _failed(verdict: ClaimVerdict, error: Exception) -> ReleaseOutcome:
    text = str(error)
    if isinstance(error, OSError):
        text = (error.strerror or text) + (f": {error.filename!r}" if error.filename else "")
    return ReleaseOutcome(verdict.claim.failed(text), "failed", verdict.evidence, text)


def _settle(store: ClaimStore, outcome: ReleaseOutcome) -> ReleaseOutcome:
    """Drop the claim of what is done, and note a failure; a full disk hinders only the note."""
    try:
        if outcome.what == "failed":
            store.update(outcome.claim)
        else:
            store.remove(outcome.claim)
    except StateError as error:
        if outcome.what == "failed":
            return outcome
        text = f"{outcome.what}, but its claim stays: {error.message}"
        return dataclasses.replace(outcome, what="failed", problem=text)
    return outcome


def sentences(done: Sequence[ReleaseOutcome]) -> list[str]:
    """Return one line for people on each outcome."""
    words = {
        "removed": "removed",
        "gone": "was gone already",
        "changed": "is another thing now; left alone",
    }
    return [
        f"{outcome.claim.path}: "
        + (
            f"cannot be removed (attempt {outcome.claim.attempts}): {outcome.problem}"
            if outcome.what == "failed"
            else f"{words[outcome.what]}: {outcome.evidence}"
        )
        for outcome in done
    ]
