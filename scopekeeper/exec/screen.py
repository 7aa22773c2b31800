"""What was on the screen of a run, drawn again from the last of its output. Pure."""

import codecs
import re
from collections.abc import Iterator

from scopekeeper.exec.cells import Cell
from scopekeeper.exec.emulator import Emulator
from scopekeeper.exec.grid import Screen

LIMIT = 256 << 10
"""Bytes of output that are looked at, the last."""
_LARGEST = 1000
"""Columns or rows of a picture; a window that claims more is not believed."""
_BEGINNING = re.compile(rb"\n|(?=\x1b)")
_UNFINISHED = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)\Z"
)
_USUALLY_ON = frozenset({7, 25})


def redraw(
    output: bytes,
    cols: int,
    rows: int,
    *,
    whole: bool = True,
    window: tuple[int, int] | None = None,
) -> bytes:
    """Return what draws on a cleared terminal the picture that this output made.

    cols and rows are those of the terminal that it was written to, window those of the one that
    is drawn on, where that is another. Where the output is not whole but the last of it, it may
    begin in the middle of a sequence or a character; that is left out. Where it ends in the middle
    of one, so does what is returned: what comes next goes on there. Never raises.
    """
    cols, rows = (min(max(size, 1), _LARGEST) for size in (cols, rows))
    if not whole or len(output) > LIMIT:
        output = output[-LIMIT:]
        beginning = _BEGINNING.search(output)
        output = output[beginning.end() :] if beginning else b""
    rest = _rest(output)
    emulator = Emulator(cols, rows)
    emulator.feed(output[: len(output) - len(rest)].decode("utf-8", "replace"))
    drawing = "".join(_picture(emulator, window or (cols, rows)))
    return drawing.encode("utf-8", "replace") + rest


def _rest(output: bytes) -> bytes:
    """Return the beginning of a sequence or a character that the output ends with."""
    escape = output.rfind(b"\x1b")
    # a string's terminator begins with an escape of its own
    before = output.rfind(b"\x1b", 0, max(escape, 0))
    for at in (before, escape):
        if at >= 0 and _UNFINISHED.match(output, at):
            return output[at:]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(output[-4:])
    return decoder.getstate()[0]


def _picture(emulator: Emulator, window: tuple[int, int]) -> Iterator[str]:
    if emulator.title:
        yield f"\x1b]2;{emulator.title}\x07"
    yield from _cells(emulator.main, window)
    if emulator.alternate:
        # the terminal keeps this cursor for when the program leaves the alternate screen
        if emulator.main.saved is not None:
            yield from _cursor(emulator.main, emulator.main.saved.cursor, window)
        yield f"\x1b[?{emulator.alternate}h\x1b[m"
        yield from _cells(emulator.other, window)
    screen = emulator.screen
    if screen.saved is not None:
        yield from _cursor(screen, screen.saved.cursor, window)
        yield "\x1b7"
    yield from _state(emulator, window)


def _cells(screen: Screen, window: tuple[int, int]) -> Iterator[str]:
    cols, rows = window
    first = _first(screen, rows)
    _, *shown = Cell()
    for y in range(first, min(first + rows, screen.lines)):
        cells: dict[int, Cell] = screen.buffer[y]  # type: ignore[assignment]
        line = [cells[x] for x in range(min(cols, screen.columns))]
        while line and line[-1] == Cell():
            line.pop()
        if line and len(line) == cols < screen.columns and screen.buffer[y][cols].data == "":
            line.pop()  # half of a wide character
        if line:
            yield f"\x1b[{y - first + 1}H"
        for cell in line:
            text, *style = cell
            if style != shown:
                shown = style
                yield f"\x1b[{cell.sgr}m"
            yield text
    yield "\x1b[m\x1b[H"


def _first(screen: Screen, rows: int) -> int:
    """Return the first row that is drawn: on a smaller window the one with the cursor is shown."""
    return max(screen.cursor.y - rows + 1, 0)


def _cursor(screen: Screen, cursor: "object", window: tuple[int, int]) -> Iterator[str]:
    """Put the cursor at its place, with its attributes."""
    first = _first(screen, window[1])
    x, y = min(cursor.x, window[0]), min(max(cursor.y - first, 0), window[1] - 1)  # type: ignore[attr-defined]
    attributes: Cell = cursor.attrs  # type: ignore[attr-defined]
    if x >= min(screen.columns, window[0]) and window[0] == screen.columns:
        # the next character goes to the next line, and only writing the last one says so
        line = screen.buffer[y + first]
        x = screen.columns - (2 if line[screen.columns - 1].data == "" else 1)
        last: Cell = line[max(x, 0)]  # type: ignore[assignment]
        yield f"\x1b[{y + 1};{x + 1}H\x1b[{last.sgr}m{last.data}"
    else:
        yield f"\x1b[{y + 1};{x + 1}H"
    yield f"\x1b[{attributes.sgr}m"


def _state(emulator: Emulator, window: tuple[int, int]) -> Iterator[str]:
    screen = emulator.screen
    if screen.margins and window[1] == screen.lines:
        yield f"\x1b[{screen.margins.top + 1};{screen.margins.bottom + 1}r"
    yield from _cursor(screen, screen.cursor, window)
    if emulator.modes.get(6) and window[1] == screen.lines:
        top = screen.margins.top if screen.margins else 0
        yield f"\x1b[?6h\x1b[{screen.cursor.y - top + 1};{screen.cursor.x + 1}H"
    for mode, on in emulator.modes.items():
        if mode != 6 and on != (mode in _USUALLY_ON):
            yield f"\x1b[?{mode}{'h' if on else 'l'}"
    yield "\x1b[4h" if 4 in screen.mode else ""
    yield "\x1b[20h" if 20 in screen.mode else ""
    yield "\x1b=" if emulator.keypad else ""
    yield f"\x1b[{emulator.shape} q" if emulator.shape else ""
    yield "\x1b(0" if screen.graphics[0] else ""
    yield "\x1b)0" if screen.graphics[1] else ""
    yield "\x0e" if screen.shifted else ""
