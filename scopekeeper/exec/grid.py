"""One picture of a terminal: pyte's, mended where it differs from what terminals do. Pure."""

import copy
import unicodedata
from typing import Any, NamedTuple

import pyte
from pyte import modes as pyte_modes
from pyte.screens import Cursor, wcwidth

from scopekeeper.exec.cells import Cell, rendered

_NAMES = "`abcdefghijklmnopqrstuvwxyz{|}~"
_LINE_DRAWING = str.maketrans(_NAMES, "◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·")
_MOST_COMBINED = 16
"""Characters in one cell, which some texts pile up without end."""


class Saved(NamedTuple):
    """What DECSC keeps."""

    cursor: Any
    graphics: tuple[bool, bool]
    shifted: bool
    origin: bool


class Screen(pyte.Screen):
    """One of the two pictures of a terminal; mends where pyte differs from one."""

    graphics = (False, False)
    """Whether G0 and G1 are line drawing."""
    shifted = False
    saved: Saved | None = None
    last = ""

    @property
    def default_char(self) -> Any:  # noqa: ANN401  pyte's own cell has fewer fields
        """What stands where nothing was written."""
        return Cell()

    def reset(self) -> None:
        """Be as a terminal that was turned on."""
        super().reset()
        self.cursor = Cursor(0, 0, self.default_char)
        self.graphics, self.shifted, self.saved = (False, False), False, None

    def draw(self, data: str) -> None:
        """Write text at the cursor."""
        if self.graphics[self.shifted]:
            data = data.translate(_LINE_DRAWING)
        if data.isascii() and pyte_modes.IRM not in self.mode:
            self._put_plain(data)
            return
        for char in data:
            width = 1 if " " <= char <= "~" else wcwidth(char)
            if width > 0:
                self._put(char, min(width, 2))
            elif width == 0:
                self._combine(char)

    def _put_plain(self, data: str) -> None:
        """Write what is one column wide, a line at a time: most output is that."""
        _, *style = self.cursor.attrs
        wraps = pyte_modes.DECAWM in self.mode
        self.last = data[-1]
        while data:
            x = self.cursor.x
            if x >= self.columns and wraps:
                self.carriage_return()
                self.index()
                continue
            if not wraps:
                x = min(x, self.columns - 1)
                data = data[: self.columns - x - 1] + data[-1]
            piece, data = data[: self.columns - x], data[self.columns - x :]
            line, end = self.buffer[self.cursor.y], x + len(piece)
            self._part(line, x)
            self._part(line, end)
            cells = {char: Cell(char, *style) for char in set(piece)}  # type: ignore[arg-type]
            line.update(zip(range(x, end), map(cells.__getitem__, piece), strict=True))  # type: ignore[arg-type]
            self.cursor.x = end

    def _put(self, char: str, width: int) -> None:
        cursor = self.cursor
        if cursor.x + width > self.columns:
            if width > self.columns:
                return
            if pyte_modes.DECAWM in self.mode:
                self.carriage_return()
                self.index()
            else:
                cursor.x = self.columns - width
        if pyte_modes.IRM in self.mode:
            self.insert_characters(width)
        line = self.buffer[cursor.y]
        self._part(line, cursor.x)
        self._part(line, cursor.x + width)
        line[cursor.x] = cursor.attrs._replace(data=char)
        if width == 2:
            line[cursor.x + 1] = cursor.attrs._replace(data="")
        cursor.x += width
        self.last = char

    def _part(self, line: Any, x: int) -> None:  # noqa: ANN401  a line of pyte's
        """Blank both halves of a wide character that is about to be cut at x."""
        if 0 < x < self.columns and x in line and line[x].data == "":
            for half in (x - 1, x):
                line[half] = line[half]._replace(data=" ")

    def _combine(self, char: str) -> None:
        x, line = min(self.cursor.x, self.columns) - 1, self.buffer[self.cursor.y]
        if x > 0 and line[x].data == "":
            x -= 1
        if x >= 0 and len(line[x].data) < _MOST_COMBINED:
            text = unicodedata.normalize("NFC", line[x].data + char)
            line[x] = line[x]._replace(data=text)

    def select_graphic_rendition(self, *attrs: Any) -> None:  # noqa: ANN401
        """Take in the parameters of one SGR sequence."""
        words = ";".join(map(str, attrs))
        self.cursor.attrs = rendered(self.cursor.attrs, words)  # type: ignore[assignment]

    def cursor_up(self, count: int | None = None) -> None:
        """Move up; margins hold only a cursor that is within them."""
        top = self.margins.top if self.margins else 0
        top = top if self.cursor.y >= top else 0
        self.cursor.y = max(self.cursor.y - (count or 1), top)

    def cursor_down(self, count: int | None = None) -> None:
        """Move down; margins hold only a cursor that is within them."""
        bottom = self.margins.bottom if self.margins else self.lines - 1
        bottom = bottom if self.cursor.y <= bottom else self.lines - 1
        self.cursor.y = min(self.cursor.y + (count or 1), bottom)

    def cursor_to_line(self, line: int | None = None) -> None:
        """Move to a line, in the same column."""
        self.cursor_position(line, min(self.cursor.x, self.columns - 1) + 1)

    def index(self) -> None:
        """Move down a line, and scroll at the last."""
        bottom = self.margins.bottom if self.margins else self.lines - 1
        scrolls = self.cursor.y == bottom
        super().index()
        if scrolls and self.cursor.attrs.bg:
            self._blank(bottom, range(self.columns))

    def scroll(self, lines: int) -> None:
        """Move what is within the margins up, or down where negative."""
        top = self.margins.top if self.margins else 0
        cursor, self.cursor = self.cursor, copy.copy(self.cursor)
        self.cursor.y = top
        if lines > 0:
            self.delete_lines(lines)
        else:
            self.insert_lines(-lines)
        self.cursor = cursor

    def erase_in_line(self, how: int = 0, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Erase to the end (0), from the beginning (1), or all (2)."""
        x = min(self.cursor.x, self.columns - 1)
        spans = {0: range(x, self.columns), 1: range(x + 1), 2: range(self.columns)}
        self._blank(self.cursor.y, spans.get(how, range(0)))

    def erase_in_display(self, how: int = 0, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Erase to the end (0), from the beginning (1), or all (2)."""
        y = self.cursor.y
        spans = {0: range(y + 1, self.lines), 1: range(y), 2: range(self.lines)}
        for line in spans.get(how, range(0)):
            self._blank(line, range(self.columns))
        if how in (0, 1):
            self.erase_in_line(how)

    def erase_characters(self, count: int | None = None) -> None:
        """Erase from the cursor on."""
        x = min(self.cursor.x, self.columns - 1)
        self._blank(self.cursor.y, range(x, min(x + (count or 1), self.columns)))

    def _blank(self, y: int, span: range) -> None:
        """Erase, in the background colour that is selected."""
        cell = Cell(bg=self.cursor.attrs.bg)
        if len(span) == self.columns:
            self.buffer.pop(y, None)
            if not cell.bg:
                return
        line = self.buffer[y]
        if span:
            self._part(line, span.start)
            self._part(line, span.stop)
        line.update(dict.fromkeys(span, cell))  # type: ignore[arg-type]

    def save_cursor(self) -> None:
        """Keep the cursor, as DECSC does."""
        origin = pyte_modes.DECOM in self.mode
        self.saved = Saved(copy.copy(self.cursor), self.graphics, self.shifted, origin)

    def restore_cursor(self) -> None:
        """Put the cursor where it was kept, as often as wanted: pyte does so once."""
        if self.saved is None:
            self.cursor = Cursor(0, 0, self.default_char)
            return
        cursor, self.graphics, self.shifted, origin = self.saved
        (self.mode.add if origin else self.mode.discard)(pyte_modes.DECOM)
        self.cursor = copy.copy(cursor)
        self.cursor.x = min(self.cursor.x, self.columns)
        self.ensure_vbounds()
