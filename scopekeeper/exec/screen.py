"""Draws the last picture of a run again, from the end of its output.

pyte is the terminal in memory, used as it is. It prints the sequences that it does not know and
raises on arguments that it does not expect, so the output is cut into sequences here and pyte gets
only those that it knows. It has no alternate screen either: that is a second pyte screen.
``modes`` restores the modes. What pyte gets wrong on the alternate screen is seen for a moment
only: ``attach`` makes a full-screen program redraw itself.
"""

import codecs
import contextlib
import re
import time
import unicodedata
from collections.abc import Iterator

import pyte
from pyte import graphics
from pyte import modes as pyte_modes
from pyte.charsets import LAT1_MAP

from scopekeeper.exec.modes import ALTERNATE, Modes

LIMIT = 256 << 10
"""Bytes of output that are read, the last."""
_LARGEST = 1000
"""Columns or rows of a picture at most, whatever the window claims."""
_CPU_SECONDS = 3.0
"""Time for one picture. Ordinary output takes a tenth of it; some sequences cost pyte a pass over
all cells, and a hostile program can write 100,000 of them."""
_TITLE = 256
_BEGINNING = re.compile(rb"\n|(?=\x1b)")
_UNFINISHED = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)\Z"
)
# pyte drops the rest of a text after a character without width: others than ASCII come alone
_TOKEN = re.compile(
    r"(?P<text>[ -~]{1,256}|[^\x00-\x9f])"
    r"|(?P<control>[\b-\r\x0e\x0f])"
    r"|\x1b(?:"
    r"\[(?P<sgr>[\d;:]{0,128})m"
    r"|\[(?P<numbers>[\d;]{0,64})(?P<final>[@-HJ-MPSTXabd-grsu`])"
    r"|\[\?(?P<modes>[\d;]{0,64})(?P<switch>[hl])"
    r"|\][02];(?P<title>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    r"|(?P<escape>[78DEHMc]|[()][0B]|\[(?:4|20)[hl])"
    r"|\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-Z\\`-~]?)"
)
_SGR = (
    (re.compile(r"([345]8:2:)\d*:(?=\d*:\d*:\d)"), r"\1"),  # the number of a colour space
    (re.compile(r"\b4:0"), "24"),
    (re.compile(r"\b4:\d+"), "4"),  # pyte has one underline
    (re.compile(":"), ";"),
    (re.compile(r"\b58;(?:5;\d*|2;\d*;\d*;\d*)"), "10"),  # the colour of underlines: nothing
)
"""What turns renditions that pyte does not know into those that it knows."""
_ATTRIBUTES = {name[1:]: str(code) for code, name in graphics.TEXT.items() if name[0] == "+"}
_FOREGROUND = {name: str(n) for n, name in (graphics.FG_ANSI | graphics.FG_AIXTERM).items()}
_BACKGROUND = {name: str(n) for n, name in (graphics.BG_ANSI | graphics.BG_AIXTERM).items()}
_PALETTE = {rgb: number for number, rgb in enumerate(graphics.FG_BG_256)}


def redraw(
    output: bytes,
    cols: int,
    rows: int,
    *,
    whole: bool = True,
    window: tuple[int, int] | None = None,
) -> bytes:
    """Return what draws on a cleared terminal the picture that this output made.

    cols and rows are the size of the terminal that it was written to, window the size of the one
    to draw on, if it differs. Output that is not whole may begin inside a sequence or a character,
    which is skipped. If it ends inside a sequence, so does the result: the next output continues
    it. Output that takes too long to draw leaves the screen empty. Never raises.
    """
    cols, rows = (min(max(size, 1), _LARGEST) for size in (cols, rows))
    if not whole or len(output) > LIMIT:
        output = output[-LIMIT:]
        beginning = _BEGINNING.search(output)
        output = output[beginning.end() :] if beginning else b""
    rest = _rest(output)
    output = output[: len(output) - len(rest)]
    terminal, modes = _Terminal(cols, rows), Modes()
    modes.feed(output)
    if not terminal.feed(output.decode("utf-8", "replace")):
        terminal.screen.reset()
    drawing = "".join(_picture(terminal, modes, window or (cols, rows)))
    return drawing.encode("utf-8", "replace") + rest


def _rest(output: bytes) -> bytes:
    """Return the unfinished sequence or character at the end of the output."""
    escape = output.rfind(b"\x1b")
    # a string's terminator begins with an escape of its own
    before = output.rfind(b"\x1b", 0, max(escape, 0))
    for at in (before, escape):
        if at >= 0 and _UNFINISHED.match(output, at):
            return output[at:]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(output[-4:])
    return decoder.getstate()[0]


class _Terminal:
    """The two screens of a terminal."""

    def __init__(self, cols: int, rows: int) -> None:
        self._size = cols, rows
        self.reset()

    def reset(self) -> None:
        self.main = pyte.Screen(*self._size)
        self.alternate = 0
        """The mode that switched to the alternate screen, 0 while the main one is shown."""
        self.title = self._last = ""
        self._show(self.main)

    def _show(self, screen: pyte.Screen) -> None:
        self.screen = screen
        self._stream = pyte.Stream(screen)
        self._stream.use_utf8 = False  # with it pyte ignores line drawing; the text is decoded

    def feed(self, text: str) -> bool:
        """Take in output; False if it takes too long."""
        until = time.process_time() + _CPU_SECONDS
        for token in _TOKEN.finditer(text):
            # pyte raises these on numbers that it does not expect
            with contextlib.suppress(TypeError, AssertionError, LookupError, UnboundLocalError):
                self._take(token)
            if time.process_time() > until:
                return False
        return True

    def _take(self, token: "re.Match[str]") -> None:
        kind, whole = token.lastgroup, token[0]
        if kind == "switch":
            for mode in token["modes"].split(";"):
                self._set(mode, on=token["switch"] == "h")
        elif kind == "final":
            self._obey(token["numbers"], token["final"])
        elif kind == "sgr":
            for pattern, known in _SGR:
                whole = pattern.sub(known, whole)
            self._stream.feed(whole)
        elif kind == "title":
            self.title = "".join(filter(str.isprintable, token["title"][:_TITLE]))
        elif whole == "\x1bc":
            self.reset()
        elif kind is not None:
            cursor = self.screen.cursor
            if (
                cursor.x == self.screen.columns - 1
                and unicodedata.east_asian_width(whole[0]) in "WF"
            ):
                cursor.x += 1  # it goes to the next line; pyte leaves it half here
            # pyte forgets what it restores, terminals do not
            self._stream.feed("\x1b8\x1b7" if whole == "\x1b8" else whole)
            self._last = whole[-1] if kind == "text" else self._last

    def _obey(self, numbers: str, final: str) -> None:
        """Obey a control sequence; some are put into words that pyte knows."""
        count = min(int(numbers), _LARGEST) if 0 < len(numbers) < 5 and numbers.isdecimal() else 1
        if final in "su":
            numbers, final = "", {"s": "\x1b7", "u": "\x1b8\x1b7"}[final]
            self._stream.feed(final)
        elif final == "b":
            self._stream.feed(self._last * count)
        elif final in "ST":
            top = self.screen.margins.top if self.screen.margins else 0
            self._stream.feed(
                f"\x1b7\x1b[{top + 1}H\x1b[{count}{'M' if final == 'S' else 'L'}\x1b8"
            )
        else:
            cursor = self.screen.cursor
            attributes = cursor.attrs
            if final in "JKX":  # terminals erase in the background colour, pyte in all attributes
                cursor.attrs = self.screen.default_char._replace(bg=attributes.bg)
            self._stream.feed(f"\x1b[{numbers}{final}")
            cursor.attrs = attributes

    def _set(self, mode: str, *, on: bool) -> None:
        if mode in ("6", "7"):
            self._stream.feed(f"\x1b[?{mode}{'h' if on else 'l'}")
        elif mode == "1048":
            self._stream.feed("\x1b7" if on else "\x1b8\x1b7")
        elif mode in map(str, ALTERNATE) and on != bool(self.alternate):
            self.alternate = int(mode) if on else 0
            x, y = self.screen.cursor.x, self.screen.cursor.y
            if on and mode == "1049":
                self.main.save_cursor()
            self._show(pyte.Screen(*self._size) if on else self.main)
            self.screen.cursor.x, self.screen.cursor.y = x, y
            if not on and mode == "1049":
                self._stream.feed("\x1b8\x1b7")


def _picture(terminal: _Terminal, modes: Modes, window: tuple[int, int]) -> Iterator[str]:
    screen = terminal.screen
    if terminal.title:
        yield f"\x1b]2;{terminal.title}\x07"
    yield from _cells(terminal.main, window)
    if terminal.alternate:
        # the terminal keeps this cursor for when the program leaves the alternate screen
        saved = terminal.main.savepoints[-1:]
        yield from _cursor(terminal.main, saved[0].cursor if saved else screen.cursor, window)
        yield f"\x1b[?{terminal.alternate}h\x1b[m"
        yield from _cells(screen, window)
    if screen.savepoints:
        yield from _cursor(screen, screen.savepoints[-1].cursor, window)
        yield "\x1b7"
    same_height = window[1] == screen.lines
    if screen.margins and same_height:
        yield f"\x1b[{screen.margins.top + 1};{screen.margins.bottom + 1}r"
    yield modes.again(without=() if same_height else (6,)).decode("ascii")
    yield from _cursor(screen, screen.cursor, window)
    yield "\x1b[4h" if pyte_modes.IRM in screen.mode else ""
    yield "\x1b[20h" if pyte_modes.LNM in screen.mode else ""
    yield "\x1b(0" if screen.g0_charset != LAT1_MAP else ""
    yield "\x0e" if screen.charset else ""


def _cells(screen: pyte.Screen, window: tuple[int, int]) -> Iterator[str]:
    cols, rows = window
    first, shown = _first(screen, rows), ""
    for y in range(first, min(first + rows, screen.lines)):
        line = [screen.buffer[y][x] for x in range(min(cols, screen.columns))]
        while line and line[-1] == screen.default_char:
            line.pop()
        placed = False
        for x, cell in enumerate(line):
            if not cell.data:
                continue  # the second half of a wide character
            # pyte keeps the mark on a wide character in its second half: it follows it at once
            is_mark = x > 0 and unicodedata.combining(cell.data[0])
            if not placed and not is_mark:
                yield f"\x1b[{y - first + 1};{x + 1}H"
            if (style := _sgr(cell)) != shown:
                shown = style
                yield style
            yield cell.data
            # the terminal may have another idea of the width of others
            placed = cell.data.isascii()
    yield "\x1b[m\x1b[H"


def _sgr(cell: "pyte.screens.Char") -> str:
    """Return what selects the colours and attributes of a cell."""
    on = [code for name, code in _ATTRIBUTES.items() if getattr(cell, name)]
    colours = _colour(cell.fg, _FOREGROUND, 38), _colour(cell.bg, _BACKGROUND, 48)
    return f"\x1b[{';'.join(['0', *on, *filter(None, colours)])}m"


def _colour(name: str, named: dict[str, str], others: int) -> str:
    if name == "default":
        return ""
    if name in named:
        return named[name]
    if name in _PALETTE:
        return f"{others};5;{_PALETTE[name]}"
    if len(name) != 6:  # a program wrote a number that is no byte
        return ""
    return f"{others};2;{';'.join(str(int(name[at : at + 2], 16)) for at in (0, 2, 4))}"


def _first(screen: pyte.Screen, rows: int) -> int:
    """Return the first row to draw: a smaller window shows the row with the cursor."""
    return max(screen.cursor.y - rows + 1, 0)


def _cursor(
    screen: pyte.Screen, cursor: "pyte.screens.Cursor", window: tuple[int, int]
) -> Iterator[str]:
    """Put the cursor at its place, with its attributes."""
    first = _first(screen, window[1])
    x, y = min(cursor.x, window[0]), min(max(cursor.y - first, 0), window[1] - 1)
    wraps = x == screen.columns == window[0]
    if wraps:
        # the next character goes to the next line, which only writing the last one brings about
        line = screen.buffer[cursor.y]
        x = max(x - (1 if line[x - 1].data else 2), 0)
    row = y - screen.margins.top if screen.margins and pyte_modes.DECOM in screen.mode else y
    yield f"\x1b[{row + 1};{x + 1}H"
    if wraps:
        yield _sgr(line[x]) + line[x].data
    yield _sgr(cursor.attrs)
