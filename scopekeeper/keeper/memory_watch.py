"""Reports when the memory of a scope, or of a member with a limit of its own, nears the limit.

The kernel reports a limit that is reached, and no share of one. So this looks every few seconds,
but only while a rule asks for it and a scope with a limit lives: else it does not wake the keeper.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scopekeeper.keeper import notices
from scopekeeper.kernel import cgroupfs
from scopekeeper.scope.model import Member, Scope

SECONDS = 5.0
"""Between two looks."""
_LIMIT_LOOKS = 12
"""After so many looks the limits are read again: an operator may have changed them."""
_FALL = 0.05
"""How far below the share it has to fall, as a part of the limit, before it can pass again."""


@dataclass(frozen=True, slots=True)
class _Limited:
    """A cgroup with a limit."""

    scope: Scope
    member: Member | None
    directory: str
    limit: int


class MemoryWatch:
    """scopes returns the living scopes; shares the parts of limits that rules ask about.

    report is called with each ``MemoryHigh``, once until the memory has fallen again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scopes: Callable[[], Iterable[Scope]],
        shares: Callable[[], frozenset[float]],
        report: Callable[[notices.MemoryHigh], None],
    ) -> None:
        self._loop = loop
        self._scopes = scopes
        self._shares = shares
        self._report = report
        self._limits: dict[str, int | None] = {}
        """By directory; None where there is none."""
        self._looks = 0
        self._passed: set[tuple[str, float]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Begin or end to look: rules or scopes have changed."""
        if not self._shares():
            self.close()
        elif self._timer is None:
            self._look()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        shares = self._shares()
        limited = list(self._limited()) if shares else []
        for each in limited:
            self._compare(each, shares)
        if limited:
            self._timer = self._loop.call_later(SECONDS, self._look)
        there = {each.directory for each in limited}
        self._passed = {key for key in self._passed if key[0] in there and key[1] in shares}

    def _limited(self) -> Iterable[_Limited]:
        self._looks += 1
        known = self._limits if self._looks % _LIMIT_LOOKS else {}
        self._limits = {}
        for scope in self._scopes():
            if scope.lives:
                yield from self._with_limit(scope, None, scope.directory, known)
                for member in scope.living_members:
                    yield from self._with_limit(scope, member, member.directory, known)

    def _with_limit(
        self, scope: Scope, member: Member | None, directory: str, known: dict[str, int | None]
    ) -> Iterable[_Limited]:
        limit = known[directory] if directory in known else limit_of(directory)
        self._limits[directory] = limit
        if limit:
            yield _Limited(scope, member, directory, limit)

    def _compare(self, each: _Limited, shares: frozenset[float]) -> None:
        used = _number(cgroupfs.read(each.directory, "memory.current")) or 0
        if used >= min(shares) * each.limit:  # what can be dropped matters only then
            text = cgroupfs.read(each.directory, "memory.stat")
            used -= min(used, cgroupfs.keyed(text, "inactive_file") or 0)
        for share in shares:
            key = (each.directory, share)
            if used >= share * each.limit:
                if key not in self._passed:
                    self._passed.add(key)
                    found = notices.MemoryHigh(each.scope, each.member, used, each.limit, share)
                    self._report(found)
            elif used < (share - _FALL) * each.limit:
                self._passed.discard(key)


def limit_of(directory: str) -> int | None:
    """Return the limit of a cgroup in bytes, the lower one of memory.max and memory.high."""
    texts = (cgroupfs.read(directory, name) for name in ("memory.max", "memory.high"))
    return min((each for each in map(_number, texts) if each), default=None)


def _number(text: str | None) -> int | None:
    """Return a number; None for ``max``, and without the file."""
    word = (text or "").strip()
    return int(word) if word.isascii() and word.isdecimal() else None
