"""Waits for the end of a run, across a restart of the keeper."""

import functools
import time
from collections.abc import Callable

from scopekeeper.errors import UnavailableError
from scopekeeper.exec import messages, unheld_runs
from scopekeeper.exec.client import Connection
from scopekeeper.exec.reach import NoKeeperError, reach, reach_again
from scopekeeper.exec.run import Ended, NoRunError, end_of, load
from scopekeeper.exec.silence import LONG

_PAUSE = 0.2
_PATIENCE = 30.0
"""Seconds without a keeper before giving up."""


Wait = Callable[[float | None], Ended | None]
"""Waits for an end until a deadline, as ``wait_for`` does."""


def waiter(wanted: str) -> tuple[str, Wait]:
    """Return the id of a run, also of one that ``exec`` did not start, and what waits for its end.

    Raises what ``exec.run.find`` raises.
    """
    try:
        run = unheld_runs.find(wanted)
    except unheld_runs.UnheldRunError as error:
        return error.scope.run, functools.partial(unheld_runs.wait_for, error.scope)
    except NoRunError:
        ended = unheld_runs.recorded(wanted) if wanted else None
        if ended is None:
            raise
        return wanted, lambda _: ended
    return run.id, lambda deadline: run.ended or wait_for(run.id, deadline)


def wait_for(run_id: str, deadline: float | None = None) -> Ended | None:
    """Wait for the end of a run and return it; None if it is not known.

    Raises TimeoutError at deadline, by the monotonic clock, UnavailableError if no keeper comes,
    and SilentError if it is stopped or hangs. The first time it starts a keeper if there is none:
    after a logout or a boot maybe nothing else does.
    """
    give_up = time.monotonic() + _PATIENCE
    first = True
    while True:
        try:
            # do not start another keeper after somebody stopped this one
            start, first = first, False
            with _started(deadline) if start else reach_again() as connection:
                if deadline is not None:
                    connection.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                known = connection.ask(do="wait", run=run_id)
                give_up = time.monotonic() + _PATIENCE
                silence = connection.silence(stopped=LONG, is_due=end_of(load(run_id)))
                ended = messages.end(known.get("run")) or messages.end(connection.answer(silence))
                return ended or _written(run_id)
        except UnavailableError as error:
            found = _written(run_id)
            if found is not None:
                return found
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise TimeoutError from None
            if now > give_up or isinstance(error, NoKeeperError):
                raise
            time.sleep(_PAUSE)


def _started(deadline: float | None) -> Connection:
    """Connect to a keeper that is started if need be; raises UnavailableError."""
    if deadline is None:
        return reach()
    return reach(seconds=min(max(deadline - time.monotonic(), 0.0), _PATIENCE))


def _written(run_id: str) -> Ended | None:
    found = load(run_id)
    return found.ended if found is not None else None
