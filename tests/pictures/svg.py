"""Draws a film of a terminal as an animated SVG without scripts. Pure: events in, text out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import pyte
from pyte.screens import Char

Event = tuple[float, str]
"""Seconds since the film began, and what the terminal printed."""

_CELL_W, _CELL_H, _MARGIN = 8.4, 19.0, 12.0
_SHORTEST_S, _LONGEST_S, _LAST_S = 0.08, 1.3, 4.0
"""A frame that is replaced sooner is not drawn; longer waits are cut; the last one stays on."""
_BACK, _FORE = "#1b1f24", "#d7dde3"
_COLOURS = {
    "black": "#4b5159", "red": "#f47067", "green": "#6bc46d", "brown": "#daaa3f",
    "blue": "#6cb6ff", "magenta": "#dcbdfb", "cyan": "#76e3ea", "white": "#d7dde3",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring cells of one style in a line."""

    column: int
    text: str
    colour: str
    bold: bool
    back: str | None = None


Line = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """The lines of the screen from a moment on."""

    at: float
    lines: tuple[Line, ...]


def frames(events: Sequence[Event], columns: int, lines: int) -> list[Frame]:
    """Return the distinct screens of a film, without those that are replaced at once."""
    screen = pyte.Screen(columns, lines)
    stream = pyte.Stream(screen)
    found: list[Frame] = []
    at = before = 0.0
    for moment, text in events:
        at += min(moment - before, _LONGEST_S)
        before = moment
        stream.feed(text)
        shown = tuple(tuple(_runs(screen, row)) for row in range(lines))
        if found and at - found[-1].at < _SHORTEST_S:
            found[-1] = Frame(found[-1].at, shown)
        elif not found or shown != found[-1].lines:
            found.append(Frame(at, shown))
    return found


def _runs(screen: pyte.Screen, row: int) -> Iterator[Run]:
    cells = [screen.buffer[row][column] for column in range(screen.columns)]
    column = 0
    while column < len(cells):
        style = _style(cells[column])
        end = column
        while end < len(cells) and _style(cells[end]) == style:
            end += 1
        text = "".join(_drawable(cell.data) for cell in cells[column:end])
        if style[2]:
            yield Run(column, text, *style)
        elif text.strip():
            lead = len(text) - len(text.lstrip())
            yield Run(column + lead, text.strip(), *style)
        column = end


def _style(cell: Char) -> tuple[str, bool, str | None]:
    """Return the colour of a cell's text, whether it is bold, and the colour behind it."""
    fore, back = _COLOURS.get(cell.fg, _FORE), _COLOURS.get(cell.bg)
    if cell.reverse:
        fore, back = back or _BACK, fore
    return fore, cell.bold, back


def _drawable(text: str) -> str:
    return text if text.isprintable() else " "  # XML has no place for control characters


def draw(events: Sequence[Event], columns: int, lines: int, title: str) -> str:
    """Return the SVG of a film; title is what a screen reader says."""
    title = "".join(map(_drawable, title))
    found = frames(events, columns, lines)
    width, height = columns * _CELL_W + 2 * _MARGIN, lines * _CELL_H + 2 * _MARGIN
    lasts = found[-1].at + _LAST_S
    known: dict[Line, int] = {}
    strips = []
    for number, frame in enumerate(found):
        uses = []
        for row, line in enumerate(frame.lines):
            if line:
                name = known.setdefault(line, len(known))
                uses.append(f'<use href="#l{name}" y="{row * _CELL_H:g}"/>')
        strips.append(f'<g transform="translate({number * width:g})">{"".join(uses)}</g>')
    defined = "\n".join(f'<g id="l{name}">{_text(line)}</g>' for line, name in known.items())
    steps = " ".join(
        f"{frame.at / lasts * 100:.3f}% {{transform: translateX({-number * width:g}px)}}"
        for number, frame in enumerate(found)
    )
    last = -(len(found) - 1) * width
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" \
viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title, quote=True)}">
<title>{escape(title)}</title>
<style>
text {{font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre}}
#film {{animation: film {lasts:.2f}s steps(1, end) infinite}}
@keyframes film {{{steps} 100% {{transform: translateX({last:g}px)}}}}
@media (prefers-reduced-motion: reduce) {{
  #film {{animation: none; transform: translateX({last:g}px)}}
}}
</style>
<defs>
{defined}
</defs>
<rect width="{width:g}" height="{height:g}" rx="8" fill="{_BACK}"/>
<svg x="{_MARGIN:g}" y="{_MARGIN:g}" width="{columns * _CELL_W:g}" height="{lines * _CELL_H:g}">
<g id="film">
{chr(10).join(strips)}
</g>
</svg>
</svg>
"""


def _text(line: Line) -> str:
    return "".join(_behind(run) + _words(run) for run in line)


def _words(run: Run) -> str:
    bold = ' font-weight="bold"' if run.bold else ""
    return (
        f'<text x="{run.column * _CELL_W:g}" y="{_CELL_H * 0.75:g}" fill="{run.colour}"{bold}'
        f' textLength="{len(run.text) * _CELL_W:g}" xml:space="preserve">{escape(run.text)}</text>'
    )


def _behind(run: Run) -> str:
    if run.back is None:
        return ""
    return (
        f'<rect x="{run.column * _CELL_W:g}" width="{len(run.text) * _CELL_W:g}" '
        f'height="{_CELL_H:g}" fill="{run.back}"/>'
    )
