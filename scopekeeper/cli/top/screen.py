"""The terminal of ``top``, by curses of the standard library.

curses knows every terminal by terminfo, sends only what differs from the picture before, and costs
1 MiB; rich, textual, urwid and prompt_toolkit cost 10 to 40, and a dependency.

Only texts that are safe reach it, each cut to the width of its line.
"""

import contextlib
import curses
import locale
import os
import re
import select
import termios
from typing import Self

from scopekeeper.cli.colour import PAINTED, Paint
from scopekeeper.cli.top.layout import Line, Picture, Style
from scopekeeper.errors import UsageError

_ESCAPE_MS = 25
"""The bytes of one key arrive within this time."""
_NAMES = {
    curses.KEY_UP: "up", curses.KEY_DOWN: "down", curses.KEY_LEFT: "left",
    curses.KEY_RIGHT: "right", curses.KEY_PPAGE: "pageup", curses.KEY_NPAGE: "pagedown",
    curses.KEY_HOME: "home", curses.KEY_END: "end", curses.KEY_ENTER: "enter",
    curses.KEY_BACKSPACE: "backspace", curses.KEY_DC: "backspace",
}  # fmt: skip
_CONTROLS = {
    "\n": "enter", "\r": "enter", "\x1b": "esc", "\x7f": "backspace", "\b": "backspace",
    "\x0c": "ctrl-l", "\x15": "ctrl-u", "\x04": "q",
}  # fmt: skip
_COLOURS = {
    Paint.RED: curses.COLOR_RED, Paint.GREEN: curses.COLOR_GREEN,
    Paint.YELLOW: curses.COLOR_YELLOW, Paint.CYAN: curses.COLOR_CYAN,
}  # fmt: skip
_NEEDED = ("cup", "clear")
"""What a terminal has to be able to do, by its names in terminfo(5)."""
_ASCII = {"…": "~", "↑": "^", "↓": "v", "←": "<", "→": ">", "├": "|", "└": "`", "│": "|", "─": "-"}
"""What stands for our own characters where the locale has no UTF-8."""


class Screen:
    """The whole terminal, from ``begin`` to ``end``."""

    def __init__(self, *, colours: bool) -> None:
        """Find out what the terminal can do; raises UsageError."""
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, "")
        self._encoding = locale.nl_langinfo(locale.CODESET)
        name = os.environ.get("TERM") or "unknown"
        try:
            curses.setupterm(name, 1)
        except curses.error:
            raise _unusable(f"the terminal type {name!r} ($TERM) is unknown here") from None
        if any(not curses.tigetstr(each) for each in _NEEDED):
            raise _unusable(f"a terminal of type {name!r} ($TERM) cannot move its cursor")
        self._colours = colours
        self._attributes: dict[Paint, int] = {}
        self._window: curses.window | None = None

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def coloured(self) -> bool:
        """Whether words are painted."""
        return bool(self._attributes)

    def begin(self) -> None:
        """Take the terminal over."""
        window = curses.initscr()
        curses.noecho()
        curses.cbreak()
        with contextlib.suppress(termios.error):  # Ctrl-S would stop it in the middle of a write
            attributes = termios.tcgetattr(0)
            attributes[0] &= ~termios.IXON
            termios.tcsetattr(0, termios.TCSANOW, attributes)
        curses.set_escdelay(_ESCAPE_MS)
        curses.def_prog_mode()
        window.keypad(True)
        window.nodelay(True)
        self._window = window
        self._show_cursor(shown=False)
        if self._colours:
            self._begin_colours()
        self.resize()  # $LINES and $COLUMNS may say otherwise

    def _begin_colours(self) -> None:
        with contextlib.suppress(curses.error):
            curses.start_color()
            if curses.has_colors():
                curses.use_default_colors()
                for number, (paint, colour) in enumerate(_COLOURS.items(), 1):
                    curses.init_pair(number, colour, -1)
                    self._attributes[paint] = curses.color_pair(number)
                self._attributes |= {Paint.BOLD: curses.A_BOLD, Paint.DIM: curses.A_DIM}

    def end(self) -> None:
        """Give the terminal back as it was; once is enough."""
        if self._window is not None and not curses.isendwin():
            self._show_cursor(shown=True)
            with contextlib.suppress(curses.error):
                curses.endwin()

    def again(self) -> None:
        """Take the terminal over again after ``end``, or after somebody else has drawn on it."""
        if self._window is not None:
            curses.reset_prog_mode()
            self._window.clear()
            self._show_cursor(shown=False)
            self.resize()

    def resize(self) -> None:
        """Take on the size that the terminal has now."""
        with contextlib.suppress(OSError, curses.error):
            size = os.get_terminal_size(1)
            if size.lines and size.columns:
                curses.resizeterm(size.lines, size.columns)
        if self._window is not None:
            self._window.clearok(True)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        if self._window is None:
            return 80, 24
        lines, columns = self._window.getmaxyx()
        return columns, lines

    def is_gone(self) -> bool:
        """Return whether nobody is at the terminal any more."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        ready = dict(poll.poll(0))
        return bool(ready.get(0, 0) & (select.POLLHUP | select.POLLERR | select.POLLNVAL))

    def keys(self) -> list[str]:
        """Return the keys that were pressed: characters, or names such as ``up``."""
        found = []
        while self._window is not None:
            try:
                key = self._window.get_wch()
            except curses.error:
                break
            if isinstance(key, int):
                found.append(_NAMES.get(key, ""))
            else:
                found.append(_CONTROLS.get(key, key if key.isprintable() else ""))
        return [key for key in found if key]

    def forget_typed(self) -> None:
        """Drop what was typed before now: it is no answer to a question not yet asked."""
        curses.flushinp()

    def draw(self, picture: Picture) -> None:
        """Draw a picture; what is equal to the last one is not sent again."""
        window = self._window
        if window is None:
            return
        window.erase()
        height, _ = window.getmaxyx()
        for at, line in enumerate(picture.lines[:height]):
            with contextlib.suppress(curses.error):  # the last cell: the cursor cannot go on
                window.move(at, 0)
                window.clrtoeol()  # the line above may have been wider here than it was there
                self._draw(window, line)
        self._show_cursor(shown=picture.cursor is not None)
        if picture.cursor is not None:
            with contextlib.suppress(curses.error):
                window.move(*picture.cursor)
        window.refresh()

    def _draw(self, window: "curses.window", line: Line) -> None:
        attribute = self._of_style(line.style)
        if line.underlined and line.underlined in line.text:
            before, word, behind = line.text.partition(line.underlined)
            window.addstr(self._shown(before), attribute)
            window.addstr(self._shown(word), attribute | curses.A_UNDERLINE)
            window.addstr(self._shown(behind), attribute)
            return
        paint = 0
        for piece in re.split(f"({PAINTED})", line.text):
            if re.fullmatch(PAINTED, piece):
                paint = self._of_sequence(piece)
            elif piece:
                window.addstr(self._shown(piece), attribute | paint)

    def _of_style(self, style: Style) -> int:
        if style in (Style.HEADER, Style.SELECTED):
            return curses.A_REVERSE | (curses.A_BOLD if style is Style.SELECTED else 0)
        if style is Style.PROBLEM:
            return curses.A_BOLD | self._attributes.get(Paint.YELLOW, 0)
        return {Style.BOLD: curses.A_BOLD, Style.DIM: curses.A_DIM}.get(style, 0)

    def _of_sequence(self, sequence: str) -> int:
        value = sequence[2:-1]
        return next((a for paint, a in self._attributes.items() if paint.value == value), 0)

    def _shown(self, text: str) -> str:
        """Return a text as the locale can encode it, in as many characters."""
        if text.isascii() or self._encoding.upper() in ("UTF-8", "UTF8"):
            return text
        text = "".join(_ASCII.get(char, char) for char in text)
        return text.encode(self._encoding, "replace").decode(self._encoding)

    def _show_cursor(self, *, shown: bool) -> None:
        with contextlib.suppress(curses.error):  # some terminals cannot hide it
            curses.curs_set(int(shown))


def _unusable(problem: str) -> UsageError:
    return UsageError(problem, "set TERM, or list once: `scopekeeper ls`")
