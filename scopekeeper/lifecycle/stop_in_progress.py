"""A stop that another process carries out now: which process, and when it kills what is left."""

from dataclasses import dataclass

from scopekeeper.kernel.proc import boottime
from scopekeeper.lifecycle import stop_witness
from scopekeeper.lifecycle.plan import Action, Step, Verdict
from scopekeeper.quantities import show_duration
from scopekeeper.scope.reason import Stopper

_KEEPER = "scopekeeper"
"""Command of a keeper; every other scopekeeper stops for the process that called it."""
_SLACK_SECONDS = 10.0
"""How long a stop may take after its kill, before it counts as hung."""


@dataclass(frozen=True, slots=True)
class StopInProgress:
    """A stop by another process, as that has noted it outside of the record."""

    pid: int
    asker: Stopper | None
    left: float | None
    """Seconds until it kills what is left; None if an earlier version does not note that."""

    @property
    def is_sure(self) -> bool:
        """Whether it is known when it will be over, and that has not passed."""
        return self.left is not None and self.left > -_SLACK_SECONDS

    @property
    def words(self) -> str:
        """Return who stops it and until when, as one clause."""
        is_ending = f"{self._who} is ending it"
        if self.left is None:
            return f"{is_ending}; it is not known until when"
        if self.left > 0:
            return f"{is_ending}, and kills what is left in {show_duration(self.left)}"
        if self.is_sure:
            return f"{is_ending}, and kills what is left now"
        return f"{is_ending}, and should have killed what is left {show_duration(-self.left)} ago"

    @property
    def _who(self) -> str:
        if self.asker is None:
            return f"process {self.pid}"
        if self.asker.pid != self.pid:
            return f"process {self.pid}, asked by {self.asker},"
        return f"the keeper (pid {self.pid})" if self.asker.command == _KEEPER else str(self.asker)


def of(action: Action) -> StopInProgress | None:
    """Return the stop for which an action keeps a scope or a member; None if nothing proves one."""
    where = action.member or action.scope
    if action.verdict is not Verdict.STOPPING or action.step is not Step.KEEP:
        return None
    kept = stop_witness.find(where.directory)
    if kept is None or kept.pid != where.stopper:
        return None
    left = None if kept.kill_at is None else (kept.kill_at - boottime()) / 1e6
    return StopInProgress(where.stopper, Stopper(*kept.asker) if kept.asker else None, left)
