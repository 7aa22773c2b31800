"""Draws boxes, arrows and words as an SVG without scripts, for a dark page and a light one.

Sizes are pixels of a telephone's screen: a drawing is some 400 wide, so that nobody has to zoom.
"""

from collections.abc import Sequence
from html import escape

WIDTH = 400
_ROUND, _LINE = 6, 18
_SIZES = {"title": 14.0, "": 13.0, "dim": 12.5, "end": 12.5}
_NARROW, _WIDE = " fijlrt.,:;'!|()[]-", "mwMW@"
_COLOURS = {
    # name: light, dark
    "page": ("#ffffff", "#1b1f24"),
    "frame": ("#d3dae1", "#3a424c"),
    "ink": ("#1f2933", "#e3e8ed"),
    "dim": ("#56616d", "#a3afbb"),
    "owner": ("#fdf3dc", "#3a3119"),
    "owner-line": ("#a87400", "#daaa3f"),
    "session": ("#f1f4f8", "#242b34"),
    "session-line": ("#7a8ba0", "#6f8196"),
    "scope": ("#e1edfb", "#1f3146"),
    "scope-line": ("#2b6cb0", "#6cb6ff"),
    "member": ("#e3f4e8", "#1f3a2a"),
    "member-line": ("#23804b", "#6bc46d"),
    "end": ("#b3261e", "#f8867e"),
}


def width_of(words: str, kind: str) -> float:
    """Return how wide words are at most, in a font with wide letters."""
    parts = (
        0.4 if each in _NARROW else 0.95 if each in _WIDE else 0.72 if each.isupper() else 0.62
        for each in words
    )
    return sum(parts) * _SIZES[kind] * (1.08 if kind == "title" else 1)


class Drawing:
    """A drawing to which shapes are added, from the back to the front."""

    def __init__(self, title: str) -> None:
        self.title = title
        """What a screen reader reads."""
        self._shapes: list[str] = []

    def box(self, kind: str, x: float, y: float, width: float, height: float) -> None:
        """Add a box: ``owner``, ``session``, ``scope``, ``member`` or ``end``."""
        self._shapes.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
            f'rx="{_ROUND}"/>'
        )

    def words(self, x: float, y: float, words: str, kind: str = "", *, room: float) -> None:
        """Add a line of text; raises ValueError if it may be wider than its room."""
        if width_of(words, kind) > room:
            raise ValueError(f"{words!r} needs {width_of(words, kind):.0f} of {room:.0f} pixels")
        name = f' class="{kind}"' if kind else ""
        self._shapes.append(f'<text{name} x="{x:g}" y="{y:g}">{escape(words)}</text>')

    def lines(
        self, x: float, y: float, lines: Sequence[str], kind: str = "", *, room: float
    ) -> float:
        """Add lines of text; return where the next one goes."""
        for line in lines:
            self.words(x, y, line, kind, room=room)
            y += _LINE
        return y

    def ends(self, x: float, y: float, lines: Sequence[str], *, room: float) -> float:
        """Add what ends something, each line with a cross; return where the next one goes."""
        for line in lines:
            self._shapes.append(f'<path class="cross" d="M{x:g} {y - 8:g}l8 8m0 -8l-8 8"/>')
            self.words(x + 14, y, line, "end", room=room - 14)
            y += _LINE
        return y

    def processes(self, x: float, y: float, count: int) -> None:
        """Add a member's processes: its command, and what that has started."""
        for number in range(count):
            name, at = "process" if number else "process first", x + 18 * number
            self._shapes.append(f'<circle class="{name}" cx="{at:g}" cy="{y:g}" r="5"/>')
            if number:
                self._shapes.append(f'<path class="thin" d="M{at - 13:g} {y:g}h8"/>')

    def arrow(self, kind: str, path: str) -> None:
        """Add an arrow along a path of SVG: ``plain`` or ``ending``."""
        self._shapes.append(f'<path class="arrow {kind}" d="{path}" marker-end="url(#{kind})"/>')

    def bar(self, kind: str, x: float, y: float, height: float) -> None:
        """Add a part of a time line that runs down the page."""
        self._shapes.append(
            f'<rect class="bar-{kind}" x="{x - 4:g}" y="{y:g}" width="8" height="{height:g}"/>'
        )

    def step(self, kind: str, x: float, y: float, number: int) -> None:
        """Add a numbered step on a time line."""
        self._shapes.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="12"/>')
        self._shapes.append(f'<text class="number" x="{x:g}" y="{y + 4.5:g}">{number}</text>')

    def grid(self, path: str) -> None:
        """Add a line of a scale."""
        self._shapes.append(f'<path class="grid" d="{path}"/>')

    def curve(self, kind: str, points: Sequence[tuple[float, float]]) -> None:
        """Add a line through some points, and a dot at each."""
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._shapes.append(f'<path class="curve {kind}" d="M{path}"/>')
        for x, y in points:
            self._shapes.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')

    def svg(self, height: float, style: str = "") -> str:
        """Return the whole drawing; style is what only this one needs."""
        title = escape(self.title, quote=True)
        return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}" \
viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{title}">
<title>{title}</title>
<style>
{_STYLE}{style}</style>
<defs>{_marker("plain")}{_marker("ending")}</defs>
<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8"/>
{chr(10).join(self._shapes)}
</svg>
"""


def _marker(kind: str) -> str:
    return (
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        f'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path class="head {kind}" d="M0 0.5L8 4L0 7.5z"/></marker>'
    )


def _variables(which: int) -> str:
    return " ".join(f"--{name}: {colours[which]};" for name, colours in _COLOURS.items())


_FILLED = "".join(
    f".{name} {{fill: var(--{name}); stroke: var(--{name}-line)}}\n"
    f".bar-{name} {{fill: var(--{name}-line)}}\n"
    for name in ("owner", "session", "scope", "member")
)
_STYLE = f"""\
:root {{{_variables(0)}}}
@media (prefers-color-scheme: dark) {{:root {{{_variables(1)}}}}}
text {{font: 13px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  fill: var(--ink)}}
.title {{font-size: 14px; font-weight: 600}}
.dim {{font-size: 12.5px; fill: var(--dim)}}
text.end {{font-size: 12.5px; fill: var(--end)}}
.number {{font-weight: 600; text-anchor: middle}}
.page {{fill: var(--page); stroke: var(--frame)}}
{_FILLED}rect.end {{fill: var(--page); stroke: var(--end)}}
.cross {{stroke: var(--end); stroke-width: 2; fill: none; stroke-linecap: round}}
.process {{fill: var(--page); stroke: var(--member-line); stroke-width: 1.5}}
.process.first {{fill: var(--member-line)}}
.thin {{stroke: var(--member-line); stroke-width: 1.5}}
.arrow {{fill: none; stroke: var(--dim); stroke-width: 1.5}}
.arrow.ending {{stroke: var(--end); stroke-dasharray: 5 3}}
.head {{fill: var(--dim)}}
.head.ending {{fill: var(--end)}}
"""
