"""OOM kills in scopes that are removed before anybody has read their own counts.

systemd removes a scope with its last process, and the counts with it. The slice above stays, and
counts the kills of all scopes in it (cgroup v2, ``memory.events``): what it has counted and no
scope that is there has, was in the one that was removed. There is nothing but scopes in our slice;
in the cgroup of a service there is more, so the counts of that prove nothing.
"""

import os

from scopekeeper.kernel import cgroupfs
from scopekeeper.systemd.units import SLICE


def kills_of(directory: str, name: str = "memory.events") -> int:
    """Return the number of OOM kills in a cgroup and below; 0 if it is gone."""
    return cgroupfs.keyed(cgroupfs.read(directory, name), "oom_kill") or 0


class SliceKills:
    """Knows which kills in slices are explained by scopes."""

    def __init__(self) -> None:
        self._explained: dict[str, int] = {}

    def begin(self, scope: str, *, reported: int) -> None:
        """Begin to count for the slice of a scope, of whose kills so many need no report."""
        slice_ = os.path.dirname(scope)
        if slice_.endswith(f"/{SLICE}") and slice_ not in self._explained:
            unreported = kills_of(scope) - reported
            self._explained[slice_] = kills_of(slice_) - unreported

    def explain(self, scope: str, kills: int) -> None:
        """Note kills that a scope's own count has shown."""
        slice_ = os.path.dirname(scope)
        if slice_ in self._explained:
            # it may have counted one already, between two looks
            self._explained[slice_] = min(self._explained[slice_] + kills, kills_of(slice_))

    def has_unexplained(self, scope: str) -> bool:
        """Return whether the slice of a scope has counted a kill that nothing explains yet."""
        slice_ = os.path.dirname(scope)
        return slice_ in self._explained and kills_of(slice_) > self._explained[slice_]

    def forget_unexplained(self, scope: str) -> None:
        """Count only kills from now on."""
        slice_ = os.path.dirname(scope)
        if slice_ in self._explained:
            self._explained[slice_] = kills_of(slice_)
