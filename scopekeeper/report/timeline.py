"""Lays out when scopes lived: a track for each session and lane, its bars in rows. Pure.

A scope's bar goes from the start of its first member to the end of its last one, and has the reason
of that end. An end of another member inside is a mark on it. Scopes too short for a bar share cells
with a count for each reason. So the number of shapes is bounded by the width, not by the ends.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scopekeeper.report.model import REASONS, RUNNING, Life

WIDTH = 1000
"""Units from the left end of the axis to the right one."""
CELL = 4
"""Units of a cell; a scope that is narrower has no bar of its own."""
MOST_ROWS = 6
"""Rows of bars in a track: more scopes at once are counted, and not drawn."""
MOST_TRACKS = 100
_MARK = 3
"""Units: marks of one reason that are nearer are one."""
_TOGETHER = 2.0
"""Seconds before the end of a scope in which its members end with it."""
_MOST_STEPS = 8
_STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400, 172800,
          604800, 1209600, 2592000, 7776000, 15552000, 31536000)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Axis:
    """The time from left to right, in steps of the same length."""

    begin: float
    step: int
    steps: int

    @property
    def end(self) -> float:
        """The right end."""
        return self.begin + self.step * self.steps

    def at(self, moment: float) -> float:
        """Return the units from the left end; a moment beyond an end is there."""
        inside = min(max(moment, self.begin), self.end)
        return (inside - self.begin) / (self.end - self.begin) * WIDTH


def axis(begin: float, end: float, offset: float) -> Axis:
    """Return an axis that has both moments, with at most eight steps, from a round time on.

    offset is the local time's, in seconds east of UTC: a step of a day begins at midnight.
    """
    end = max(end, begin + 1)
    step = next((each for each in _STEPS if (end - begin) / each <= _MOST_STEPS - 1), 0)
    if not step:
        step = int((end - begin) / (_MOST_STEPS - 1)) + 1
    first = (begin + offset) // step * step - offset
    return Axis(first, step, max(1, math.ceil((end - first) / step)))


class Mark(NamedTuple):
    """Ends of members in a scope that went on, or for another reason than the scope's."""

    at: float
    """Units from the left end of the axis."""
    reason: str
    number: int


@dataclass(frozen=True, slots=True)
class Bar:
    """The life of one scope."""

    started: float
    ended: float | None
    """None if it runs."""
    left: float
    right: float
    """Units from the left end of the axis."""
    reason: str
    members: Counter[str]
    """How many members had which name."""
    reasons: Counter[str]
    """How many of its members ended for which reason, or run."""
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Track:
    """A session and lane."""

    host: str
    user: str
    session: str
    lane: str
    last: float
    """When it was last active."""
    lives: int
    rows: tuple[tuple[Bar, ...], ...]
    cells: Mapping[int, Counter[str]]
    """By number, how many short scopes for which reason."""
    undrawn: int
    """Scopes that found no row."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The tracks that are drawn, those of one session beside each other, and what is left out."""

    axis: Axis
    tracks: tuple[Track, ...]
    more_tracks: int
    more_lives: int


def timeline(lives: Sequence[Life], axis: Axis, now: float) -> Timeline:
    """Return where everything is drawn: the tracks that were active last."""
    grouped: dict[tuple[str, str, str, str], list[Life]] = defaultdict(list)
    for life in lives:
        grouped[life.host, life.user, life.session, life.lane].append(life)
    tracks = [_track(key, each, axis, now) for key, each in grouped.items()]
    tracks.sort(key=lambda each: -each.last)
    drawn, rest = tracks[:MOST_TRACKS], tracks[MOST_TRACKS:]
    sessions = list(dict.fromkeys((each.host, each.user, each.session) for each in drawn))
    rank = {session: at for at, session in enumerate(sessions)}
    drawn.sort(key=lambda each: (rank[each.host, each.user, each.session], each.lane))
    return Timeline(axis, tuple(drawn), len(rest), sum(each.lives for each in rest))


def _track(key: tuple[str, str, str, str], lives: Sequence[Life], axis: Axis, now: float) -> Track:
    rows: list[list[Bar]] = []
    cells: dict[int, Counter[str]] = defaultdict(Counter)
    undrawn = 0
    for bar in _bars(lives, axis, now):
        if bar.right - bar.left < CELL:
            cells[min(int(bar.left // CELL), WIDTH // CELL - 1)][bar.reason] += 1
            continue
        row = next((each for each in rows if each[-1].right <= bar.left), None)
        if row is not None:
            row.append(bar)
        elif len(rows) < MOST_ROWS:
            rows.append([bar])
        else:
            undrawn += 1
    last = max(_end(each, now) for each in lives)
    return Track(*key, last, len(lives), tuple(map(tuple, rows)), cells, undrawn)


def _bars(lives: Sequence[Life], axis: Axis, now: float) -> Iterator[Bar]:
    """Yield the scopes, the one that began first before the others."""
    units: dict[str, list[Life]] = defaultdict(list)
    for life in lives:
        units[life.unit].append(life)
    found = [_bar(each, axis, now) for unit in units.values() for each in _scopes(unit, now)]
    yield from sorted(found, key=lambda each: (each.started, each.right))


def _scopes(lives: Iterable[Life], now: float) -> Iterator[list[Life]]:
    """Yield the members of each life of a unit: a scope ends with the last one that runs in it."""
    together: list[Life] = []
    until = 0.0
    for life in sorted(lives, key=lambda each: _start(each, now)):
        if together and _start(life, now) > until + _TOGETHER:
            yield together
            together = []
        until = max(until, _end(life, now)) if together else _end(life, now)
        together.append(life)
    yield together


def _bar(lives: Sequence[Life], axis: Axis, now: float) -> Bar:
    started = min(_start(each, now) for each in lives)
    ended = max(_end(each, now) for each in lives)
    runs = any(each.ended is None for each in lives)
    last = Counter(x.reason for x in lives if x.ended is not None and x.ended > ended - _TOGETHER)
    # of those as frequent, the one that is worse: it is further down in the legend
    reason = RUNNING if runs else max(last, key=lambda each: (last[each], REASONS.index(each)))
    inside = [
        each for each in lives
        if each.ended is not None
        and (runs or each.ended <= ended - _TOGETHER or each.reason != reason)
    ]  # fmt: skip
    return Bar(
        started, None if runs else ended, axis.at(started), axis.at(ended), reason,
        Counter(each.member for each in lives), Counter(each.reason for each in lives),
        tuple(_marks(inside, axis)),
    )  # fmt: skip


def _marks(lives: Iterable[Life], axis: Axis) -> Iterator[Mark]:
    counts = Counter((int(axis.at(each.ended or 0) // _MARK), each.reason) for each in lives)
    for (at, reason), count in sorted(counts.items()):
        yield Mark(at * _MARK, reason, count)


def _end(life: Life, now: float) -> float:
    return now if life.ended is None else life.ended


def _start(life: Life, now: float) -> float:
    """Return when it began; a start that is unknown, or after its end, is the end."""
    end = _end(life, now)
    return end if life.started is None else min(life.started, end)
