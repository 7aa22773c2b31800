"""Choose the scopes that a command has to read which names one session, or one scope.

A machine can have ten thousand others. Of each of these only its name and its attributes are read:
no file of it is opened. A scope is chosen if anything of what is written there may concern the
command; the command itself then decides.

- It has one of the wanted names: as its session, run, unit, session id or label.
- It has the session of such a scope, which then may supersede it.
- A member in it was launched from another member: that may be one that is named. Its launch wrote
  ``LAUNCHED`` to the scope before it wrote its own record.
- It is so new that a launch may be on its way into it.
- Nothing is sure of it: its name was cut, its record is missing, unreadable, or of a version whose
  launches do not write ``LAUNCHED``.
"""

import posix
from collections.abc import Collection, Iterable, Sequence

from scopekeeper.data import dataclass
from scopekeeper.kernel import proc
from scopekeeper.scope import names
from scopekeeper.scope.records import ATTRIBUTE, LAUNCHED, MARKS, dumps
from scopekeeper.scope.selection import Selector

_NEW_USEC = 3_000_000
"""Longer than a launch may take from its scope to its leaf: ``stop_launched.SETTLE_SECONDS``."""
_KEYS = ("SESSION", "LABEL", "SESSION_ID", "RUN")
_MARKS = f"\n{MARKS}=1\n".encode()
_BORN = b"\nBOOTTIME="
_DASHES_WITH_RUN = 3
"""In the name of a scope, which escapes all others."""


@dataclass(frozen=True, slots=True)
class About:
    """What a command names."""

    names: frozenset[str]
    or_all: bool = False
    """Whether all scopes are read if none has one of the names: it may be a member's, or wrong."""
    members: bool = False
    """Whether the name of a member counts as well as that of a scope. Then the records of all
    members are read, but no file of them is opened."""

    def later(self) -> "About":
        """Return the same for another look, when what is named may have ended."""
        return About(self.names, members=self.members)

    def of(self, directories: Iterable[str], now: int) -> Sequence[str]:
        """Return which of these scopes to read; now is in microseconds of CLOCK_BOOTTIME."""
        every = list(directories)
        chosen, matched = _choose(every, self.names, now, members=self.members)
        return every if self.or_all and matched != self.names else chosen


def about(words: Collection[str], selector: Selector, *, members: bool = False) -> About | None:
    """Return what words and options name; None if all scopes have to be read.

    members is as in About, for words; without it, all scopes are read if no scope has a name.
    """
    if words:
        # of a word that options narrow, another kind may count than the first one that it matches
        narrowed = selector != Selector()
        return About(frozenset(words), or_all=not members, members=members or narrowed)
    name = selector.session or selector.session_id
    return About(frozenset((name,)), or_all=not members) if name else None


def _choose(
    directories: Sequence[str], wanted: Collection[str], now: int, *, members: bool
) -> tuple[list[str], frozenset[str]]:
    """Return the scopes to read, and the names that one of them has."""
    known = [_Name(each) for each in wanted if each]
    near, matched = set(), set()
    for directory in directories:
        unit = directory.rpartition("/")[2]
        raw = _attribute(directory)
        found = [each.name for each in known if each.is_of(unit, raw)]
        if found:
            matched.update(found)
            near.add(_session(unit))
        elif _may_concern(directory, unit, raw, now) or (members and _has_member(directory, known)):
            near.add(directory)
    chosen = [
        each for each in directories if each in near or _session(each.rpartition("/")[2]) in near
    ]
    return chosen, frozenset(matched)


def _session(unit: str) -> str:
    """Return the session in a unit's name as it is written there."""
    return unit[len(names.PREFIX) :].partition("-")[0]


class _Name:
    """A wanted name, with how names and records of scopes have it; fast for ten thousand scopes."""

    def __init__(self, name: str) -> None:
        self.name = name
        escaped = names.escape(name)
        self._session, self._run = f"{names.PREFIX}{escaped}-", f"-{escaped}{names.SUFFIX}"
        self._value = dumps({"": name}).partition(b"\n")[2]
        self._lines = [b"\n" + key.encode() + self._value for key in _KEYS]
        self._member = b"\nNAME" + self._value

    def is_of(self, unit: str, raw: bytes) -> bool:
        """Return whether a scope with this unit and record has the name."""
        if self._value in raw and any(line in raw for line in self._lines):
            return True
        if unit.startswith(self._session) or self.name in (unit, unit.removesuffix(names.SUFFIX)):
            return True
        return unit.endswith(self._run) and unit.count("-") == _DASHES_WITH_RUN

    def is_of_member(self, leaf: str, raw: bytes) -> bool:
        """Return whether a member with this leaf and record has the name, as its id too."""
        return self.name in (leaf, *(names.parse_leaf(leaf) or ())) or self._member in raw


def _attribute(directory: str) -> bytes:
    """Return the record of a scope; b'' if it is missing or cannot be read."""
    try:
        return proc.attribute(directory, ATTRIBUTE) or b""
    except OSError:
        return b""


def _may_concern(directory: str, unit: str, raw: bytes, now: int) -> bool:
    """Return whether a scope has to be read whatever its name is."""
    if _MARKS not in raw or names.CUT_MARK in unit:
        return True
    born = raw.partition(_BORN)[2].partition(b"\n")[0]
    if not born.isdigit() or int(born[:19]) > now - _NEW_USEC:
        return True
    try:
        return proc.attribute(directory, LAUNCHED) is not None
    except OSError:
        return True


def _has_member(directory: str, wanted: Sequence[_Name]) -> bool:
    """Return whether a member has one of these names; True if that is unknown."""
    try:
        leaves = [each for each in posix.listdir(directory) if each.startswith("m-")]
    except OSError:
        return True
    for leaf in leaves:
        raw = _attribute(f"{directory}/{leaf}")
        if not raw or any(each.is_of_member(leaf, raw) for each in wanted):
            return True
    return False
