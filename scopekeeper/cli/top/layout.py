"""The lines of ``top`` for a screen of a given size. Pure; every text is safe to show."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from scopekeeper.cli.colour import PAINTED
from scopekeeper.cli.table import broken, cut, width_of, wrap
from scopekeeper.cli.top import rows as top_rows
from scopekeeper.cli.top.rows import COLUMNS, TopRow, bar
from scopekeeper.cli.top.state import Page, Room, State
from scopekeeper.kernel.machine_load import MachineLoad
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.safe_text import safe

_MACHINE = 3
"""Lines above the table, if there is room for them and for as many rows."""
_LEAST = 9
_BAR = 24
_HINTS = (
    "s stop", "a attach", "l output", "w why", "Enter open", "/ filter", "m members", "f fold",
    "? keys", "q quit",
)  # fmt: skip


class Style(Enum):
    """How a whole line is drawn."""

    PLAIN = "plain"
    BOLD = "bold"
    DIM = "dim"
    HEADER = "header"
    SELECTED = "selected"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the screen; of a plain one, some words may be painted (``colour.painted``)."""

    text: str
    style: Style = Style.PLAIN
    underlined: str = ""
    """The word of a header that is marked."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn: the lines from the top, and where the cursor is, if it is shown."""

    lines: tuple[Line, ...]
    cursor: tuple[int, int] | None = None
    """Line and column."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything beside the state that a picture is drawn from."""

    rows: Sequence[TopRow] = ()
    now: float = 0.0
    """Seconds since the epoch."""
    load: MachineLoad = field(default_factory=MachineLoad)
    cpu: float | None = None
    """Percent of all CPUs."""
    note: str = ""
    """What is to be known of the view itself, such as that no events come."""
    empty: str = ""
    """Why there are no rows."""
    users: bool = False
    coloured: bool = False
    hosts: tuple[str, ...] = ()
    """What is shown instead of the load of this machine: two lines on the hosts."""


def room_of(state: State, width: int, height: int) -> Room:
    """Return what a screen of this size has room for."""
    rows = max(height - 2 - (_MACHINE if height >= _LEAST else 0), 1)
    lines = max(height - 2, 1)
    return Room(rows, lines, len(_text_of(state, width)))


def draw(state: State, scene: Scene, width: int, height: int) -> Picture:
    """Return the picture for a screen of this size: at most that many lines of at most that width.

    The state is settled (see ``top_state.settle``).
    """
    width, height = max(width, 1), max(height, 1)
    if state.ask is not None or state.page is not None:
        lines = _page(state, width, height)
    else:
        lines = _list(state, scene, width, height)
    last, cursor = _last(state, width)
    last = last[: max(height // 2, 1)]
    lines = lines[: height - len(last)]
    lines += [Line("")] * (height - len(last) - len(lines))
    at = None if cursor is None else (height - 1, min(cursor, width - 1))
    return Picture((*lines, *last), at)


def _list(state: State, scene: Scene, width: int, height: int) -> list[Line]:
    room = room_of(state, width, height)
    lines = _machine(state, scene, width) if height >= _LEAST else []
    if not scene.rows:
        return [*lines, Line(cut(scene.empty, width), Style.DIM)]
    shown = scene.rows[state.first : state.first + room.rows]
    table = top_rows.table(
        scene.rows, shown, width,
        members=state.members, users=scene.users, coloured=scene.coloured,
        hosts=bool(scene.hosts),
    )  # fmt: skip
    by = COLUMNS[state.orders[0].at].title if state.orders else ""
    lines.append(Line(_padded(re.sub(PAINTED, "", table.header), width), Style.HEADER, by))
    selected = state.at - state.first
    for at, row in enumerate(table.rows):
        if at == selected:
            lines.append(Line(_padded(re.sub(PAINTED, "", row[0]), width), Style.SELECTED))
        else:
            lines.append(Line(row[0]))
    return lines


def _padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _machine(state: State, scene: Scene, width: int) -> list[Line]:
    """Return the lines on the machine, and on the rows together."""
    load = scene.load
    clock = time.strftime("%H:%M:%S", time.localtime(scene.now))
    together = top_rows.total(scene.rows)
    if state.filtered:
        together = f"filter {safe(state.filtered)}: {together}"
    if scene.note:
        together = f"{together}; {scene.note}"
    if scene.hosts:
        first, second = scene.hosts
        return [
            Line(cut(f"{clock} {safe(first)}", width), Style.BOLD),
            Line(cut(safe(second), width)),
            Line(cut(together, width)),
        ]
    words = [f"{clock} up {show_duration(load.uptime)}"]
    if load.load is not None:
        words.append("load " + " ".join(f"{each:.2f}" for each in load.load))
    if scene.cpu is not None:
        words.append(f"CPU {scene.cpu:.0f}% of {load.cpus}")
    if load.swap is not None and load.swap[1]:
        free, swap = load.swap
        words.append(f"swap {show_bytes(swap - free)} of {show_bytes(swap)}")
    return [
        Line(cut(", ".join(words), width), Style.BOLD),
        Line(cut(_memory(load, width), width)),
        Line(cut(together, width)),
    ]


def _memory(load: MachineLoad, width: int) -> str:
    words = "memory unknown"
    if load.memory is not None:
        available, whole = load.memory
        drawn = bar(whole - available, whole, min(_BAR, max(width // 4, 1)))
        words = f"memory {drawn} {show_bytes(whole - available)} of {show_bytes(whole)}"
    if load.pressure:
        each = (f"{what} {value:.0f}%" for what, value in load.pressure.items())
        words += ", pressure " + " ".join(each)
    return words


def _page(state: State, width: int, height: int) -> list[Line]:
    lines = _text_of(state, width)
    room = room_of(state, width, height)
    if state.ask is not None:
        title, first = state.ask.question, state.ask.first
    else:
        page: Page = state.page or Page("", "")
        title, first = page.title, _FAR_END if page.follows else page.first
    first = max(min(first, len(lines) - room.lines), 0)
    more = ""
    if len(lines) > room.lines:
        more = f"  {first + 1}-{min(first + room.lines, len(lines))} of {len(lines)}"
    header = cut(title, max(width - len(more), 1)) + more
    return [
        Line(_padded(cut(header, width), width), Style.HEADER),
        *(Line(each) for each in lines[first : first + room.lines]),
    ]


_FAR_END = 1 << 30


def _text_of(state: State, width: int) -> list[str]:
    """Return the lines of the page or the question, wrapped."""
    if state.ask is not None:
        texts = state.ask.lines
    elif state.page is not None:
        texts = state.page.lines
    else:
        return []
    return [line for each in texts for line in wrapped(each, width)]


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of that width; a word that is wider is broken."""
    text = safe(text)
    if width_of(text) <= width:
        return [text]
    indent = " " * min(len(text) - len(text.lstrip(" ")) + 2, width // 2)
    if any(width_of(word) > width - len(indent) for word in text.split(" ")):
        return broken(text, width)
    lines = wrap(text, width, "", indent)
    return [piece for line in lines for piece in broken(line, width)]


def _last(state: State, width: int) -> tuple[list[Line], int | None]:
    """Return the last line: a question, what is typed, or the keys; and where the cursor is.

    A message takes as many lines as it needs.
    """
    if state.ask is not None:
        text = "stop it? y: yes, any other key: no"
        if state.ask.what is None:
            text = "it has nothing that can be stopped; any key"
        return [Line(cut(text, width), Style.PROBLEM)], None
    if state.typed is not None:
        return _typed(safe(state.typed), state.problem, width)
    if state.message:
        return [Line(each, Style.BOLD) for each in wrapped(state.message, width)], None
    if state.page is not None:
        return [Line(cut("↑ ↓ PgUp PgDn scroll  q back", width), Style.DIM)], None
    hints: list[str] = []
    for hint in (_HINTS[-1], _HINTS[-2], *_HINTS[:-2]):  # the last ones matter most
        if width_of("  ".join([*hints, hint])) <= width:
            hints.append(hint)
    return [Line("  ".join(sorted(hints, key=_HINTS.index)), Style.DIM)], None


def _typed(text: str, problem: str, width: int) -> tuple[list[Line], int | None]:
    """Return the line in which a filter is typed: its end, and where the next character goes."""
    if problem:
        return [Line(cut(f"/{text}  {problem}", width), Style.PROBLEM)], None
    while width_of(text) > max(width - 2, 0) and text:
        text = text[1:]
    return [Line(cut(f"/{text}", width))], 1 + width_of(text)
