"""Has the history know of ends that nobody saw, before it is read."""

import contextlib
import time

from scopekeeper import state
from scopekeeper.errors import ScopekeeperError
from scopekeeper.history import End, ledger
from scopekeeper.history.store import Store
from scopekeeper.launch.place import mount_point

_KEEPER_SECONDS, _PAUSE = 3.0, 0.05
"""How long a keeper may take to tell of an end that is asked about."""


def collect(about: str = "") -> str:
    """Write them, unless a keeper does; return what went wrong, '' if nothing did.

    A keeper may yet learn how a command ended of which all else only knows that it did. about is
    what the history is asked about: then the keeper's word is waited for.
    """
    from scopekeeper.keeper import lock  # with sockets and json, which nothing else here needs

    with contextlib.suppress(LookupError):  # without cgroup2
        mount = mount_point()
        if not lock.runs() or (about and not _keeper_tells(mount, about)):
            return ledger.collect(mount)[1]
    return ""


def _keeper_tells(mount: str, about: str) -> bool:
    """Wait until a keeper has told of all that is asked about; False where it takes too long."""
    deadline = time.monotonic() + _KEEPER_SECONDS
    while time.monotonic() < deadline:
        ends = [end for end in ledger.over(mount) if _is_about(end, about)]
        if not ends or _are_known(ends):
            return True
        time.sleep(_PAUSE)
    return False


def _are_known(ends: list[End]) -> bool:
    keys = [(end.member_id, end.started) for end in ends]
    try:
        return Store(state.directory()).find(keys).keys() >= set(keys)
    except ScopekeeperError:
        return True  # who reads it next tells


def _is_about(end: End, about: str) -> bool:
    return about in (
        end.session, end.session_id, end.run, end.name, end.member_id, end.unit,
        end.unit.removesuffix(".scope"),
    )  # fmt: skip
