"""Adds unseen ends to the history before a command reads it: ends that no keeper recorded."""

import contextlib
import time
from collections.abc import Collection, Mapping

from scopekeeper.errors import ScopekeeperError
from scopekeeper.history.end import End
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import unseen_ends

_KEEPER_SECONDS, _PAUSE = 1.5, 0.05
"""How long to wait for a running keeper to record an end, and how often to look."""


def collect(
    ended: Mapping[unseen_ends.Life, str] = unseen_ends.NO_LIVES,
    known: Collection[str] = (),
    *,
    every: float = 0.0,
) -> str:
    """Record unseen ends, unless a keeper runs; return the problem, '' if there is none.

    ended has the evidence for lives of services that have ended just now; known are ids of members
    whose ends are in the history, with their reason. A running keeper records them itself: it may
    yet learn an exit status that nothing else can. With every, this is left to a later call if it
    was done less than so many seconds ago: it looks at all that lives.
    """
    with contextlib.suppress(LookupError):  # no cgroup2
        mount = mount_point()
        if not ended and unseen_ends.was_collected(every):
            return ""
        if not keeper_runs():
            return unseen_ends.collect(mount, known, ended)[1]
    return ""


def pending(about: str, equal: Mapping[str, str]) -> list[End]:
    """Return the ends of ``about`` that a running keeper has not recorded yet.

    about may be '', equal has the wanted values of fields of an end.

    Waits a moment for the keeper, which takes up to six seconds if it may yet learn more.
    """
    with contextlib.suppress(LookupError):
        mount = mount_point()
        deadline = time.monotonic() + _KEEPER_SECONDS
        while True:
            ends = unseen_ends.over(mount, lambda end: _is_about(end, about, equal))
            waiting = _unrecorded(ends) if ends else []
            if not waiting or not keeper_runs():
                return []
            if time.monotonic() > deadline:
                return waiting
            time.sleep(_PAUSE)
    return []


def keeper_runs() -> bool:
    """Return whether this user's keeper runs."""
    from scopekeeper import keeper_address  # slow: imports sockets and json

    return keeper_address.runs()


def _unrecorded(ends: list[End]) -> list[End]:
    from scopekeeper import state
    from scopekeeper.history.store import HistoryStore  # slow: imports sqlite3

    try:
        known = HistoryStore(state.directory()).find([(end.member_id, end.started) for end in ends])
    except ScopekeeperError:
        return []  # the command reports it when it reads the history
    return [end for end in ends if (end.member_id, end.started) not in known]


def _is_about(end: End, about: str, equal: Mapping[str, str]) -> bool:
    for field, value in equal.items():
        if value != getattr(end, field) and not (field == "session" and value == end.label):
            return False
    return not about or about in (
        end.session, end.label, end.session_id, end.run, end.name, end.member_id, end.unit,
        end.unit.removesuffix(".scope"),
    )  # fmt: skip
