"""Draws costs against sizes, both on scales of powers of ten: what is linear is a straight line."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.pictures.drawing import WIDTH, Drawing

_LEFT, _RIGHT, _HEIGHT, _TITLE, _SCALE = 62, 16, 110, 42, 30
_LEGEND, _CAPTION = 30, 26


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a panel."""

    kind: str
    """A colour, and how it is drawn: ``scope`` whole, ``owner`` dashed."""
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that share both scales."""

    title: str
    curves: Sequence[Curve]


def chart(
    title: str, legend: Sequence[tuple[str, str]], panels: Sequence[Panel], caption: str
) -> str:
    """Return the panels as one picture, below each other.

    legend has kinds with their names; caption says what the scales are.
    """
    it = Drawing(title)
    x = float(_LEFT)
    for kind, words in legend:
        it.curve(kind, [(x, 22), (x + 26, 22)])
        it.words(x + 34, 26, words, room=150)
        x += 150
    y = float(_LEGEND)
    for panel in panels:
        y = _panel(it, panel, y)
    it.words(14, y + _CAPTION / 2, caption, "dim", room=WIDTH - 28)
    return it.svg(y + _CAPTION, CURVES)


def _panel(it: Drawing, panel: Panel, top: float) -> float:
    """Draw one panel; return where the next one begins."""
    it.words(14, top + 24, panel.title, "title", room=WIDTH - 28)
    top += _TITLE
    bottom = top + _HEIGHT
    across = _Scale([x for each in panel.curves for x, _ in each.points], _LEFT, WIDTH - _RIGHT)
    up = _Scale([y for each in panel.curves for _, y in each.points], bottom, top)
    for value, at in up.tens():
        it.grid(f"M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}")
        it.words(8, at + 4, f"{value:,g}", "dim", room=_LEFT - 8)
    for value, at in across.tens():
        it.grid(f"M{at:.1f} {top:g}V{bottom:g}")
        text = f"{value:,g}"
        it.words(min(at - 4.2 * len(text), WIDTH - 12 - 7.6 * len(text)), bottom + 18, text, "dim",
                 room=70)  # fmt: skip
    for each in panel.curves:
        it.curve(each.kind, [(across.at(x), up.at(y)) for x, y in each.points])
    return bottom + _SCALE


class _Scale:
    """Powers of ten from one place to another, with room for all values."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        logs = [math.log10(each) for each in values]
        self._low = math.floor(min(logs) + 1e-9)
        self._high = max(math.ceil(max(logs) - 1e-9), self._low + 1)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        """Return the place of a value."""
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def tens(self) -> Iterator[tuple[float, float]]:
        """Yield each power of ten with its place."""
        for power in range(self._low, self._high + 1):
            yield 10.0**power, self.at(10.0**power)


CURVES = """\
.curve {fill: none; stroke-width: 2; stroke-linejoin: round}
.curve.scope {stroke: var(--scope-line)}
.curve.owner {stroke: var(--owner-line); stroke-dasharray: 6 3}
circle.scope {fill: var(--scope-line); stroke: none}
circle.owner {fill: var(--owner-line); stroke: none}
.grid {stroke: var(--frame)}
"""
