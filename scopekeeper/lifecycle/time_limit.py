"""Finds out whether systemd ended a scope after its ttl while nobody watched.

systemd forgets the unit at once. Its line in the journal stays, if there is a journal that this
user can read.
"""

import contextlib
from collections.abc import Mapping

from scopekeeper.data import dataclass, field
from scopekeeper.errors import ScopekeeperError
from scopekeeper.scope.placement import manager_of
from scopekeeper.systemd import units

_SLACK = 1_000_000
"""Microseconds by which systemd's timer may differ from ours."""
_DIGITS = 18


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """The ttl of one life of a scope."""

    path: str
    """Of its cgroup."""
    ttl: int
    """Microseconds."""
    due: int
    """When it is over, in microseconds since the epoch."""


def of_launch(
    path: str, ttl: int | None, scope_born: str, started: int, born: int
) -> TimeLimit | None:
    """Return the limit that a launch found in the scope at a cgroup path; None if it has none.

    scope_born is the text of a record. The launch was at started, in microseconds since the epoch,
    and at born, by CLOCK_BOOTTIME.
    """
    is_number = scope_born.isdecimal() and scope_born.isascii() and len(scope_born) <= _DIGITS
    if ttl is None or not is_number or not manager_of(path):
        return None
    return TimeLimit(path, ttl, started - (born - int(scope_born)) + ttl)


@dataclass(slots=True)
class TimedOut:
    """What systemd reports of scopes that reached their limits; each manager is asked once."""

    _of: dict[str, Mapping[str, list[int]]] = field(default_factory=dict)

    def evidence(self, limit: TimeLimit, next_: int | None) -> str:
        """Return the evidence that systemd ended a scope after its ttl; '' if there is none.

        next_ is when a later scope of that name was there, in microseconds since the epoch. A stop
        that takes too long has the same result, and comes earlier.
        """
        kind = manager_of(limit.path)
        if kind not in self._of:
            self._of[kind] = _read(kind)
        moments = self._of[kind].get(units.unit_at(limit.path), ())
        if not any(
            limit.due <= moment + _SLACK and (next_ is None or moment < next_) for moment in moments
        ):
            return ""
        return f"systemd ended its scope after its {limit.ttl / 1e6:g} s"


def _read(kind: str) -> Mapping[str, list[int]]:
    from scopekeeper.systemd import journal_lines

    with contextlib.suppress(ScopekeeperError):
        return journal_lines.timed_out(kind)
    return {}
