"""Waits for the end of a run, across a restart of the keeper."""

import time

from scopekeeper.errors import UnavailableError
from scopekeeper.pty.reach import NoKeeperError, reach_again
from scopekeeper.pty.run import Ended, load

_PAUSE = 0.2
_PATIENCE = 30.0
"""Seconds without any keeper after which there will be none."""


def wait_for(run_id: str, deadline: float | None = None) -> Ended | None:
    """Return how a run ended, when it has; None where that is not known.

    deadline is by the monotonic clock: raises TimeoutError then. Raises UnavailableError where no
    keeper comes to tell of it.
    """
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            with reach_again() as connection:
                if deadline is not None:
                    connection.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                known = connection.ask(do="wait", run=run_id)
                give_up = time.monotonic() + _PATIENCE
                ended = known["run"]["ended"] or connection.answer()["ended"]
                return Ended(**ended) if ended else _written(run_id)
        except NoKeeperError:
            raise
        except UnavailableError:
            found = _written(run_id)
            if found is not None:
                return found
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise TimeoutError from None
            if now > give_up:
                raise
            time.sleep(_PAUSE)


def _written(run_id: str) -> Ended | None:
    found = load(run_id)
    return found.ended if found is not None else None
