"""A terminal in memory: what a run's output would show. Pure.

Cutting the output into sequences is done here: pyte's own parser prints what it does not know,
and gives up on what it does not expect.
"""

import contextlib
import copy
import re

from scopekeeper.exec.grid import Screen
from scopekeeper.exec.modes import ALTERNATE

_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f]+)"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    r"|\x1b(?:\[(?P<csi>[0-?]*)(?P<between>[ -/]*)(?P<final>[@-~])"
    r"|\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)?"
    r"|[PX^_][^\x1b]*(?:\x1b\\)?"
    r"|(?P<escape>[ -/]*[0-Z\\^-~])"
    r"|\[[0-?]*[ -/]*|[ -/]*)"
)
_MOST = 9999
_DIGITS = 4
_TITLE = 256
_SHARED = {6: 6 << 5, 7: 7 << 5}
"""Private modes that pyte obeys, and what it calls them."""
_REMEMBERED = frozenset({1, 5, 6, 7, 9, 12, 25, 66, 2004, 2031, *range(1000, 1008), 1015, 1016})
_MOVES = {
    "A": "cursor_up",
    "B": "cursor_down",
    "C": "cursor_forward",
    "D": "cursor_back",
    "E": "cursor_down1",
    "F": "cursor_up1",
    "G": "cursor_to_column",
    "L": "insert_lines",
    "M": "delete_lines",
    "P": "delete_characters",
    "X": "erase_characters",
    "@": "insert_characters",
    "`": "cursor_to_column",
    "a": "cursor_forward",
    "d": "cursor_to_line",
    "e": "cursor_down",
}
_CONTROLS = {
    "\b": "backspace",
    "\t": "tab",
    "\n": "linefeed",
    "\v": "linefeed",
    "\f": "linefeed",
    "\r": "carriage_return",
}


class Emulator:
    """Feed it text, then look at its screens and modes."""

    def __init__(self, cols: int, rows: int) -> None:
        self._size = cols, rows
        self.reset()

    def reset(self) -> None:
        """Be a terminal where nothing happened."""
        self.main, self.other = Screen(*self._size), Screen(*self._size)
        self.alternate = 0
        """The mode that switched to the alternate screen, 0 where the main one is shown."""
        self.modes: dict[int, bool] = {}
        self.keypad = False
        self.shape = ""
        self.title = ""

    @property
    def screen(self) -> Screen:
        """The picture that is shown."""
        return self.other if self.alternate else self.main

    def feed(self, text: str) -> None:
        """Take in what a run wrote; what is no sequence that is known does nothing."""
        for token in _TOKEN.finditer(text):
            # pyte does not expect every number everywhere
            with contextlib.suppress(ValueError, TypeError, AssertionError, LookupError):
                self._take(token)

    def _take(self, token: "re.Match[str]") -> None:
        kind = token.lastgroup
        if kind == "text":
            self.screen.draw(token["text"])
        elif kind == "control":
            self._control(token["control"])
        elif kind == "final":
            self._csi(token["csi"], token["between"], token["final"])
        elif kind == "osc":
            number, _, text = token["osc"].partition(";")
            if number in ("0", "2"):
                self.title = "".join(char for char in text[:_TITLE] if char.isprintable())
        elif kind == "escape":
            self._escape(token["escape"])

    def _control(self, char: str) -> None:
        if char in "\x0e\x0f":
            self.screen.shifted = char == "\x0e"
        elif char in _CONTROLS:
            getattr(self.screen, _CONTROLS[char])()

    def _escape(self, text: str) -> None:
        screen = self.screen
        if text[0] in "()" and len(text) == 2:
            at = "()".index(text[0])
            graphics = list(screen.graphics)
            graphics[at] = text[1] == "0"
            screen.graphics = graphics[0], graphics[1]
        elif text in "=>":
            self.keypad = text == "="
        elif text == "c":
            self.reset()
        elif text == "E":
            screen.carriage_return()
            screen.index()
        elif text in "78DMH":
            names = ("save_cursor", "restore_cursor", "index", "reverse_index", "set_tab_stop")
            getattr(screen, names["78DMH".index(text)])()

    def _csi(self, parameters: str, between: str, final: str) -> None:
        if between:
            if between + final == " q":
                self.shape = parameters if parameters.isdecimal() and len(parameters) < 2 else ""
            elif between + final == "!p":
                self._soft_reset()
        elif parameters.startswith("?"):
            if final in "hl":
                for mode in _numbers(parameters[1:]):
                    self._set(mode, on=final == "h")
        elif final == "m":
            # what begins with another mark is about the keyboard, not about colours
            if not parameters or parameters[0] not in "<=>":
                self.screen.select_graphic_rendition(parameters)
        elif not parameters or parameters[0] not in "<=>":
            self._obey(final, _numbers(parameters))

    def _obey(self, final: str, numbers: list[int]) -> None:
        screen, first = self.screen, numbers[0] if numbers else 0
        if final in _MOVES:
            getattr(screen, _MOVES[final])(first)
        elif final in "Hf":
            screen.cursor_position(*numbers[:2])
        elif final == "J":
            screen.erase_in_display(first)
        elif final == "K":
            screen.erase_in_line(first)
        elif final == "r":
            self._margins(numbers)
        elif final in "ST":
            screen.scroll((first or 1) * (1 if final == "S" else -1))
        elif final in "hl":
            (screen.set_mode if final == "h" else screen.reset_mode)(
                *(number for number in numbers if number in (4, 20))
            )
        else:
            self._obey_rare(final, first)

    def _obey_rare(self, final: str, first: int) -> None:
        screen = self.screen
        if final == "b" and screen.last:
            screen.draw(screen.last * min(first or 1, screen.columns))
        elif final == "g":
            screen.clear_tab_stop(first)
        elif final == "I":
            for _ in range(min(first or 1, screen.columns)):
                screen.tab()
        elif final == "Z":
            for _ in range(min(first or 1, screen.columns)):
                stops = (stop for stop in screen.tabstops if stop < screen.cursor.x)
                screen.cursor.x = max(stops, default=0)
        elif final == "s":
            screen.save_cursor()
        elif final == "u":
            screen.restore_cursor()

    def _margins(self, numbers: list[int]) -> None:
        top, bottom = (*numbers, 0, 0)[:2]
        lines = self.screen.lines
        top, bottom = top or 1, min(bottom or lines, lines)
        if top < bottom:
            self.screen.set_margins(top, bottom)
            if (top, bottom) == (1, lines):
                self.screen.margins = None
            self.screen.cursor_position()

    def _set(self, mode: int, *, on: bool) -> None:
        if mode in ALTERNATE:
            self._switch(mode, on=on)
        elif mode == 1048:
            (self.screen.save_cursor if on else self.screen.restore_cursor)()
        elif mode in _REMEMBERED:
            self.modes[mode] = on
            if mode in _SHARED:
                (self.screen.mode.add if on else self.screen.mode.discard)(_SHARED[mode])
            if mode == 6:
                self.screen.cursor_position()

    def _switch(self, mode: int, *, on: bool) -> None:
        if on == bool(self.alternate):
            return
        before = self.screen
        if on and mode == 1049:
            self.main.save_cursor()
        if on and mode != 47:
            self.other = Screen(*self._size)
        self.alternate = mode if on else 0
        after = self.screen
        # only the picture is another one
        after.cursor, after.mode = copy.copy(before.cursor), set(before.mode)
        after.margins, after.tabstops = before.margins, set(before.tabstops)
        after.graphics, after.shifted = before.graphics, before.shifted
        if not on and mode == 1049:
            self.main.restore_cursor()

    def _soft_reset(self) -> None:
        for mode in (1, 6):
            self._set(mode, on=False)
        for mode in (7, 25):
            self._set(mode, on=True)
        self.screen.margins, self.keypad = None, False
        self.screen.mode.discard(4)
        self.screen.graphics, self.screen.shifted = (False, False), False
        self.screen.select_graphic_rendition(0)


def _numbers(text: str) -> list[int]:
    """Return the numbers of a sequence; 0 for what was left out."""
    words = text.split(";") if text else []
    return [min(int(word[: _DIGITS + 1]), _MOST) if word.isdecimal() else 0 for word in words[:32]]
