"""Runs whose terminal the keeper does not hold: ``run`` or a gateway's shell started them.

``ls`` lists them beside those of ``exec``, but their terminal and output belong to their launcher.
They can only be waited for.

Imports are inside functions, since most runs are those of ``exec``.
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
"""A keeper records the end of a member well within this time."""
_PAUSE = 0.1


class UnheldRunError(ScopekeeperError):
    """The keeper does not hold the terminal of this run."""

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

    Raises what that raises, and UnheldRunError for a run that something else started.
    """
    try:
        return runs.find(wanted)
    except NoRunError:
        scope = _scope_of(wanted)
        if scope is None:
            raise
        raise UnheldRunError(scope) from None


def _scope_of(wanted: str) -> "Scope | None":
    """Return the scope of the run with this id, or of the only one whose id begins so."""
    from scopekeeper.kernel.proc import mount_point
    from scopekeeper.scope.snapshot import Reader

    scopes = Reader(mount_point()).snapshot(uid=os.geteuid()).scopes if wanted else ()
    found = [scope for scope in scopes if scope.run.startswith(wanted) and not scope.elsewhere]
    exact = [scope for scope in found if scope.run == wanted]
    return (exact or found)[0] if exact or len(found) == 1 else None


def wait_for(scope: "Scope", deadline: float | None) -> Ended | None:
    """Wait for the end of the run in a scope and return it; None if it is not known.

    Raises TimeoutError at deadline, by the monotonic clock.
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
    """Return the last end in the history of a run that began since a time; None if there is none.

    Waits a moment: if the run ended just now, a keeper is about to record it.
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
