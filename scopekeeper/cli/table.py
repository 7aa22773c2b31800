"""Lays out tables: drops, cuts and wraps until the lines fit a terminal. Pure.

Our own and not rich, whose import and drawing of 20 rows take 50 ms of CPU, beside 60 ms for all
of ``ls``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum

from scopekeeper.cli.cells import ABSENT, Unit
from scopekeeper.cli.colour import Paint, painted
from scopekeeper.data import dataclass, field, replace
from scopekeeper.safe_text import safe

GAP = 2
"""Spaces between columns."""
MARK = "…"
_TOO_NARROW = 10
"""Below this a beginning says more than two ends."""
_UUID = r"(?i)\b([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
_LINES = "[│├└─ ]*([0-9]+ )?"
"""Before a text in a tree, with the number of a process; each character takes one column."""
_EMOJI_STYLE = "\ufe0f"
"""Makes the character before it an emoji, which is wide."""


class Fit(Enum):
    """How a cell gives way when its column is too narrow for it."""

    NOT = "not"
    END = "end"
    MIDDLE = "middle"
    """Keep both ends, and show UUIDs by their first 8 digits, with a mark of the cut."""
    TREE = "tree"
    """As MIDDLE, after the lines of a tree that lead to the text."""
    WRAP = "wrap"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: how it aligns, how it gives way, and how much it is needed."""

    title: str
    fit: Fit = Fit.NOT
    least: int = 8
    """The width down to which it gives way before another column is dropped."""
    need: int = 0
    """0: it is always shown. The column with the highest number is dropped first."""
    right: bool = False
    unit: Unit = Unit.TEXT
    """What its values are, for ``--where`` and ``--sort``."""
    values: Sequence[str] = ()
    """All values that a text in it can be; () if there may be others."""
    words: Mapping[str, float] = field(default_factory=dict)
    """Words that stand for values of it, such as ``never``."""
    extra: bool = False
    """Whether it is only shown if it is asked for."""
    paints: Mapping[str, Paint] = field(default_factory=dict)
    """The cells that have a colour."""

    @property
    def name(self) -> str:
        """Its name in ``--where``, ``--sort`` and ``--columns``."""
        return self.title.lower().replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Table:
    """The lines of a table."""

    header: str
    rows: tuple[tuple[str, ...], ...]
    """One line for each row, several if a cell wraps."""
    dropped: tuple[str, ...] = ()
    """The titles of the columns that are missing though they have values."""
    is_cut: bool = False
    """Whether a cell is shortened."""


def lay_out(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    *,
    coloured: bool = False,
) -> Table:
    """Return a table that is at most width columns wide; everything in full if width is None."""
    cells = [[safe(cell) for cell in row] for row in rows]
    shown = list(range(len(columns)))
    if width is None:
        widths = _natural(columns, cells, shown)
        return _drawn(columns, cells, shown, widths, coloured=coloured)
    shown = [at for at in shown if not _is_empty(columns[at], [row[at] for row in cells])] or [0]
    if _total(_natural(columns, cells, shown)) > width:
        cells = _with_short_ids(columns, cells)
    natural = _natural(columns, cells, shown)
    dropped = []
    while _total([_least(columns[at], wide) for at, wide in natural.items()]) > width:
        at = max(shown, key=lambda at: (columns[at].need, at))
        if not columns[at].need or len(shown) == 1:
            break
        dropped.append(at)
        shown.remove(at)
        del natural[at]
    widths = _narrowed(columns, natural, width)
    drawn = _drawn(columns, cells, list(widths), widths, coloured=coloured)
    dropped += [at for at in shown if at not in widths]
    is_cut = drawn.is_cut or cells != [[safe(cell) for cell in row] for row in rows]
    return replace(drawn, dropped=tuple(columns[at].title for at in sorted(dropped)), is_cut=is_cut)


def _is_empty(column: Column, cells: Sequence[str]) -> bool:
    return bool(column.need and cells) and all(cell in ABSENT for cell in cells)


def _natural(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], shown: Sequence[int]
) -> dict[int, int]:
    """Return the width of each column that needs no cut."""
    return {
        at: max(width_of(text) for text in (columns[at].title, *(row[at] for row in rows)))
        for at in shown
    }


def _total(widths: "Sequence[int] | dict[int, int]") -> int:
    each = widths.values() if isinstance(widths, dict) else widths
    return sum(each) + GAP * (len(widths) - 1)


def _least(column: Column, natural: int) -> int:
    if column.fit is Fit.NOT:
        return natural
    return min(natural, max(column.least, width_of(column.title)))


def _narrowed(columns: Sequence[Column], natural: dict[int, int], width: int) -> dict[int, int]:
    """Narrow the widest columns until they fit; at last also those that give way to nothing."""
    widths = {at: min(wide, max(width, 1)) for at, wide in natural.items()}
    while len(widths) > 1 and _total([1] * len(widths)) > width:
        widths.popitem()
    floors = {at: _least(columns[at], natural[at]) for at in widths}
    for least in (floors, dict.fromkeys(widths, 1)):
        while _total(widths) > width:
            able = [at for at in widths if widths[at] > least[at]]
            if not able:
                break
            widths[max(able, key=widths.__getitem__)] -= 1
    return widths


def _drawn(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    shown: Sequence[int],
    widths: dict[int, int],
    *,
    coloured: bool,
) -> Table:
    titles = [_cut(columns[at].title, widths[at]) for at in shown]
    header = _line(columns, shown, widths, titles)
    header = painted(header, Paint.BOLD) if coloured else header
    lines, is_cut = [], False
    for row in rows:
        parts = [_fitted(columns[at], row[at], widths[at]) for at in shown]
        is_cut = is_cut or any(
            columns[at].fit is not Fit.WRAP and part != [row[at]]
            for at, part in zip(shown, parts, strict=True)
        )
        height = max(map(len, parts))
        paints = [columns[at].paints.get(row[at]) for at in shown] if coloured else ()
        lines.append(
            tuple(
                _line(columns, shown, widths, [p[at] if at < len(p) else "" for p in parts], paints)
                for at in range(height)
            )
        )
    return Table(header, tuple(lines), is_cut=is_cut)


def _line(
    columns: Sequence[Column],
    shown: Sequence[int],
    widths: dict[int, int],
    cells: Sequence[str],
    paints: Sequence[Paint | None] = (),
) -> str:
    padded = []
    for place, (at, cell) in enumerate(zip(shown, cells, strict=True)):
        spaces = " " * (widths[at] - width_of(cell))
        text = painted(cell, paints[place]) if paints else cell
        padded.append(spaces + text if columns[at].right else text + spaces)
    return (" " * GAP).join(padded).rstrip(" ")


def _fitted(column: Column, cell: str, width: int) -> list[str]:
    if width_of(cell) <= width:
        return [cell]
    if column.fit is Fit.WRAP:
        return [piece for line in wrap(cell, width) for piece in broken(line, width)]
    if column.fit is Fit.TREE:
        import re

        lines = re.match(_LINES, cell)
        before = lines[0] if lines and len(lines[0]) < width else ""
        return [before + cut_middle(cell[len(before) :], width - len(before))]
    return [cut_middle(cell, width) if column.fit is Fit.MIDDLE else _cut(cell, width)]


def width_of(text: str) -> int:
    """Return how many columns of a terminal a safe text takes, or more, but not less."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(char: str) -> int:
    if char == _EMOJI_STYLE:
        return 1
    from unicodedata import category, east_asian_width  # most tables are ASCII

    if category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def _head(text: str, width: int) -> str:
    """Return the longest beginning that fits."""
    if text.isascii():
        return text[: max(width, 0)]
    for at, char in enumerate(text):
        width -= _width(char)
        if width < 0:
            return text[:at]
    return text


def _tail(text: str, width: int) -> str:
    """Return the longest end that fits."""
    for at in range(len(text) - 1, -1, -1):
        width -= _width(text[at])
        if width < 0:
            return text[at + 1 :]
    return text


def cut(text: str, width: int) -> str:
    """Cut the end of a text; ``…`` marks it."""
    return _cut(safe(text), width)


def _cut(text: str, width: int) -> str:
    return text if width_of(text) <= width else _head(text, width - 1) + MARK


def cut_middle(text: str, width: int) -> str:
    """Cut the middle out of a text, at colons if that loses little: ``agent:main:…:7f3a9c21``."""
    if width_of(text) <= width or width < _TOO_NARROW:
        return _cut(text, width)
    room = width - 1
    tail = _tail(text, room // 2)
    whole = text.rfind(":")
    if whole > 0 and room // 4 <= width_of(text[whole:]) <= room * 2 // 3:
        tail = text[whole:]  # the last part, such as a number of a chat
    head = _head(text, room - width_of(tail))
    part = head.rpartition(":")[0] + ":"
    if tail.startswith(":") and ":" in head and width_of(part) * 4 >= width_of(head) * 3:
        head = part
    return head + MARK + tail


def name_in_line(name: str, width: int) -> str:
    """Return a name for a line of text, cut in the middle if it would take most of the line."""
    return cut_middle(safe(name), max(width // 2, _TOO_NARROW))


def _with_short_ids(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Show UUIDs by 8 characters, except where two texts of a column would become the same."""
    import re  # most tables fit, and it takes as long as the interpreter

    done = [list(row) for row in rows]
    for at in (at for at, column in enumerate(columns) if column.fit in (Fit.MIDDLE, Fit.TREE)):
        short = {text: re.sub(_UUID, rf"\1{MARK}", text) for text in {row[at] for row in rows}}
        same = Counter(short.values())
        for row in done:
            row[at] = short[row[at]] if same[short[row[at]]] == 1 else row[at]
    return done


def with_short_ids(text: str) -> str:
    """Return a text with the first 8 digits of each UUID in it."""
    import re

    return re.sub(_UUID, r"\1", text)


def wrap(text: str, width: int, first: str = "", then: str = "") -> list[str]:
    """Return a text in lines of this width, never broken inside of a word.

    first and then indent the first and the other lines. A word that is wider than a line has one of
    its own.
    """
    lines, line = [], first
    for at, word in enumerate(text.split(" ")):
        joined = f"{line} {word}" if at else line + word
        if at and width_of(joined) > width:
            lines.append(line)
            joined = then + word
        line = joined
    return [each.rstrip(" ") for each in (*lines, line)]


def broken(line: str, width: int) -> list[str]:
    """Return a line in pieces that fit, broken inside of words."""
    pieces = []
    while width_of(line) > width:
        head = _head(line, width) or MARK
        pieces.append(head)
        line = line[len(head) :]
    return [*pieces, line]
