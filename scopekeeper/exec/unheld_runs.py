"""Runs whose terminal the keeper does not hold: ``run`` or a gateway's shell started them.

``ls`` lists them beside those of ``exec``, but their terminal and their output are their
launcher's. What can be done here is to say so, and to wait for their end.

It imports late what only this takes: mostly a run is one of ``exec``.
"""

import os
import time
from typing import TYPE_CHECKING

from scopekeeper.errors import HistoryError, ScopekeeperError
from scopekeeper.exec import run as runs
from scopekeeper.exec.run import Ended, NoRunError, Run

if TYPE_CHECKING:
    from scopekeeper.scope.model import Scope

_TURN = 60.0
_HISTORY_SECONDS = 2.0
"""A keeper writes the end of a member well within that time."""
_PAUSE = 0.1


class UnheldRunError(ScopekeeperError):
    """A run whose terminal is not the keeper's."""

    def __init__(self, scope: "Scope") -> None:
        self.scope = scope
        labels = {m.owner_state.owner.label for m in scope.living_members if m.owner_state}
        whose = f" ({', '.join(sorted(labels))})" if labels else ""
        super().__init__(
            f"the keeper does not hold the terminal of the run {scope.run}, which `exec` did not "
            f"start: its terminal and its output are its launcher's{whose}",
            f"`scopekeeper wait {scope.run}` waits for its end, "
            f"`scopekeeper stop {scope.unit}` ends it",
        )


def find(wanted: str) -> Run:
    """Return a run of ``exec``, as ``scopekeeper.exec.run.find``.

    Raises what that does, and UnheldRunError for a run that something else started.
    """
    try:
        return runs.find(wanted)
    except NoRunError:
        scope = _scope_of(wanted)
        if scope is None:
            raise
        raise UnheldRunError(scope) from None


def _scope_of(wanted: str) -> "Scope | None":
    """Return the scope whose run is called so, or is the only one that begins so."""
    from scopekeeper.kernel.proc import mount_point
    from scopekeeper.scope.snapshot import Reader

    scopes = Reader(mount_point()).snapshot(uid=os.geteuid()).scopes if wanted else ()
    found = [scope for scope in scopes if scope.run.startswith(wanted) and not scope.elsewhere]
    exact = [scope for scope in found if scope.run == wanted]
    return (exact or found)[0] if exact or len(found) == 1 else None


def wait_for(scope: "Scope", deadline: float | None) -> Ended | None:
    """Return how the run ended that was in a scope, when it has; None where that is not known.

    deadline is by the monotonic clock: raises TimeoutError then.
    """
    from scopekeeper.kernel.emptiness import EmptinessWatch

    with EmptinessWatch([scope.directory]) as watch:
        while watch.left:
            left = _TURN if deadline is None else min(deadline - time.monotonic(), _TURN)
            if left <= 0:
                raise TimeoutError
            watch.wait(left)
    return recorded(scope.run, scope.created)


def recorded(run_id: str, since: int = 0) -> Ended | None:
    """Return the last end that the history has of a run, begun since a time; None for none.

    It may have ended just now: then a keeper is about to write it.
    """
    from scopekeeper import state
    from scopekeeper.history.store import HistoryStore

    store = HistoryStore(state.directory())
    give_up = time.monotonic() + _HISTORY_SECONDS
    while True:
        try:
            ends = store.read(about=run_id, limit=50)
        except HistoryError:
            return None
        mine = [end for end in ends if end.run == run_id and end.started >= since]
        if mine:
            end = mine[-1]
            return Ended(end.ended, end.reason.value, end.evidence, end.exit_status, end.signal)
        if time.monotonic() > give_up:
            return None
        time.sleep(_PAUSE)
