"""Has the history know of ends that nobody saw, before it is read."""

import contextlib
import time

from scopekeeper import state
from scopekeeper.errors import ScopekeeperError
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import unseen_ends

_KEEPER_SECONDS, _PAUSE = 1.5, 0.05
"""How long a keeper is waited for that is about to record an end that is asked about."""


def collect() -> str:
    """Write them, unless a keeper does; return what went wrong, '' if nothing did.

    A keeper may yet learn how a command ended of which all else only knows that it did.
    """
    with contextlib.suppress(LookupError):  # without cgroup2
        mount = mount_point()
        if not _keeper_runs():
            return unseen_ends.collect(mount)[1]
    return ""


def pending(about: str) -> list[End]:
    """Return ends that are asked about and that a running keeper has yet to record.

    It waits a moment for that; a keeper takes up to six seconds where it may yet learn more.
    """
    with contextlib.suppress(LookupError):
        mount = mount_point()
        deadline = time.monotonic() + _KEEPER_SECONDS
        while True:
            ends = [end for end in unseen_ends.over(mount) if _is_about(end, about)]
            waiting = _unrecorded(ends) if ends else []
            if not waiting or not _keeper_runs():
                return []
            if time.monotonic() > deadline:
                return waiting
            time.sleep(_PAUSE)
    return []


def _keeper_runs() -> bool:
    from scopekeeper.exec import (
        keeper_address,  # with sockets and json, which nothing else here needs
    )

    return keeper_address.runs()


def _unrecorded(ends: list[End]) -> list[End]:
    try:
        known = HistoryStore(state.directory()).find([(end.member_id, end.started) for end in ends])
    except ScopekeeperError:
        return []  # who reads it next reports that
    return [end for end in ends if (end.member_id, end.started) not in known]


def _is_about(end: End, about: str) -> bool:
    return about in (
        end.session, end.session_id, end.run, end.name, end.member_id, end.unit,
        end.unit.removesuffix(".scope"),
    )  # fmt: skip
