"""Remove the paths whose last user is gone: call ``release_due`` whenever something has ended.

Three steps; the next call continues them after a crash:

1. Under the lock of the claims, decide which are due, and rename each due path to
   ``.scopekeeper-gone.<id>`` in its folder. A later claim no longer finds it.
2. Remove the renamed path.
3. Drop the claim; if the removal failed, keep it with the reason.

A container has no first step. It is ended without the lock of step 2, since its program may be
slow; two processes that do so at once do no harm.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scopekeeper.errors import RefusedError, StateError
from scopekeeper.history import recording
from scopekeeper.kernel import mounts
from scopekeeper.owned import check, end_container, scratch, tree
from scopekeeper.owned.claim import Claim
from scopekeeper.owned.holders import Here
from scopekeeper.owned.plan import ClaimVerdict, judge
from scopekeeper.owned.scratch_sizes import MOST_AT_ITS_END, size_of
from scopekeeper.owned.size import Size
from scopekeeper.owned.store import ClaimStore, Damaged
from scopekeeper.scope import names

_FIRST_RETRY, _LONGEST_RETRY = 5.0, 600.0
_LOOK_AGAIN = 30.0
"""Seconds until the next check of holders whose end sends no event."""


@dataclass(frozen=True, slots=True)
class ReleaseOutcome:
    """The outcome for one claim that was due."""

    claim: Claim
    what: str
    """removed; stopped (a container); gone (somebody else removed it); changed (another file is
    there now, which stays); failed (the claim is kept and tried again)."""
    evidence: str
    problem: str = ""
    scratch: Size | None = None
    """Of a scratch folder: its size when it was removed."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a release."""

    done: tuple[ReleaseOutcome, ...] = ()
    damaged: tuple[Damaged, ...] = ()
    """Claims that cannot be read; they are kept."""
    problem: str = ""
    """Why nothing at all could be done."""
    try_again: float | None = None
    """Seconds after which to call this again even if no cgroup empties; None if that is useless."""

    @property
    def failed(self) -> bool:
        """Whether something due was not done."""
        return bool(self.problem or self.damaged) or any(o.what == "failed" for o in self.done)


def look(store: ClaimStore, mount: str) -> tuple[list[ClaimVerdict], list[Damaged]]:
    """Return every claim with its verdict, and those that cannot be read; raises StateError."""
    claims, damaged = store.read()
    return judge(Here(mount).states(claims)), damaged


def release_due(mount: str, *, only: Callable[[Claim], bool] | None = None) -> Report:
    """Remove every path that is due; errors are in the report.

    mount is the mount point of cgroup2; only filters the claims.
    """
    try:
        store = ClaimStore.find()
        if store is None:
            return Report()
        here = Here(mount)
        with store.releasing():
            report, containers = _release(store, here, only)
        if not containers:
            return report
        ended = [_end(verdict, here) for verdict in containers]
        with store.locked():
            ended = [_settle(store, outcome) for outcome in ended]
        return dataclasses.replace(
            report, done=(*report.done, *ended), try_again=_soonest(report.try_again, ended)
        )
    except (StateError, OSError) as error:
        return Report(problem=str(error), try_again=_FIRST_RETRY)


def _release(
    store: ClaimStore, here: Here, only: Callable[[Claim], bool] | None
) -> tuple[Report, list[ClaimVerdict]]:
    """Remove the paths that are due; return the containers that are too."""
    done: list[ReleaseOutcome] = []
    waiting: list[ClaimVerdict] = []
    containers: list[ClaimVerdict] = []
    with store.locked():
        store.sweep()
        claims, damaged = store.read()
        if any(claim.is_scratch for claim in claims):
            scratch.reopen()
        scratch.sweep(claims)
        states = here.states(claims)
        for verdict in judge(states):
            if not verdict.due or (only is not None and not only(verdict.claim)):
                continue
            if verdict.claim.container is not None:
                containers.append(verdict)
                continue
            outcome = _set_aside(verdict, here)
            if outcome is None:
                waiting.append(verdict)
            else:
                done.append(outcome)
    done += [_finish(verdict) for verdict in waiting]
    # who records the end reports a history that cannot be written
    recording.note_scratch(_sizes(done))
    with store.locked():
        done = [_settle(store, outcome) for outcome in done]
    unwatched = _LOOK_AGAIN if any(state.unwatched for _, state in states) else None
    report = Report(tuple(done), tuple(damaged), try_again=_soonest(unwatched, done))
    return report, containers


def _soonest(other: float | None, done: Sequence[ReleaseOutcome]) -> float | None:
    pauses = [_pause(outcome.claim.attempts) for outcome in done if outcome.what == "failed"]
    return min([*pauses, *([] if other is None else [other])], default=None)


def _pause(attempts: int) -> float:
    return float(min(_FIRST_RETRY * 2 ** min(max(attempts - 1, 0), 16), _LONGEST_RETRY))


def _set_aside(verdict: ClaimVerdict, here: Here) -> ReleaseOutcome | None:
    """Begin a removal; returns its outcome if it is over already."""
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
    """Make sure that the path's file system is mounted, and that nothing is mounted below it."""
    on = mounts.above(claim.path)
    inside = mounts.inside(claim.path)
    if inside:
        raise RefusedError(f"{inside[0]} is mounted")
    if on != claim.thing.mount:
        raise RefusedError(f"it was on {claim.thing.mount}, which is not mounted here now")


def _finish(verdict: ClaimVerdict) -> ReleaseOutcome:
    claim, size = verdict.claim, None
    if claim.is_scratch and not claim.attempts:  # a part of it may be gone after the first
        size = size_of(claim, MOST_AT_ITS_END, claim.aside)
    try:
        tree.finish(claim)
    except OSError as error:
        return dataclasses.replace(_failed(verdict, error), scratch=size)
    return ReleaseOutcome(claim, "removed", verdict.evidence, scratch=size)


def _sizes(done: Sequence[ReleaseOutcome]) -> list[tuple[str, str, int]]:
    """Return unit, member id and size of each scratch folder whose size is known."""
    found = []
    for outcome in done:
        leaf, size = names.parse_leaf(outcome.claim.holder.leaf), outcome.scratch
        if leaf is not None and size is not None and size.complete:
            found.append((outcome.claim.holder.unit, leaf[1], size.bytes))
    return found


def _end(verdict: ClaimVerdict, here: Here) -> ReleaseOutcome:
    claim = verdict.claim
    if claim.container is None:
        return ReleaseOutcome(claim, "gone", verdict.evidence)
    same_boot = claim.holder.boot_id == here.boot_id
    try:
        what = end_container.end(claim.claim_id, claim.container, same_boot=same_boot)
    except end_container.EndError as error:
        return _failed(verdict, error)
    return ReleaseOutcome(claim, what, verdict.evidence)


def _failed(verdict: ClaimVerdict, error: Exception) -> ReleaseOutcome:
    text = str(error)
    if isinstance(error, OSError):
        text = (error.strerror or text) + (f": {error.filename!r}" if error.filename else "")
    return ReleaseOutcome(verdict.claim.failed(text), "failed", verdict.evidence, text)


def _settle(store: ClaimStore, outcome: ReleaseOutcome) -> ReleaseOutcome:
    """Drop the claim, or record the failure in it; a full disk loses only that record."""
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
    """Return a sentence for each outcome."""
    words = {
        "removed": "removed",
        "stopped": "stopped",
        "gone": "was gone already",
        "changed": "is another thing now; left alone",
    }
    return [
        f"{outcome.claim.title}: "
        + (
            f"cannot be removed (attempt {outcome.claim.attempts}): {outcome.problem}"
            if outcome.what == "failed"
            else f"{words[outcome.what]}{_size(outcome)}: {outcome.evidence}"
        )
        for outcome in done
    ]


def _size(outcome: ReleaseOutcome) -> str:
    return "" if outcome.scratch is None else f" with {outcome.scratch.shown} in it"
