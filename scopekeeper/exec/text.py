"""Turns terminal output into lines of text. Pure.

Only movement within one line is obeyed: carriage return, backspace, and the sequences that move the
cursor in the line or erase it. All other sequences are removed. Each character counts as one
column wide.
"""

import codecs
import re

LONGEST = 64 << 10
"""Characters of a line; a longer one is returned in parts."""
LONGEST_SEQUENCE = 4 << 10
_WIDEST = 512
"""The last column for the cursor: a few bytes must not make a long line."""

_CHARACTERS = r"[^\x00-\x08\x0a-\x1f\x7f-\x9f]"
_COLOUR = r"\x1b\[[0-?]{0,99}[@ABEFHIJL-~]"
"""A complete sequence that changes nothing in the line, as most do."""
_LINES = re.compile(rf"(?:(?:{_CHARACTERS}++|{_COLOUR})*\r?\n)+")
"""Lines that need no parsing by the character.

Groups that contain choices are not possessive: before Python 3.11.5, as in Debian 12, such groups
match wrongly.
"""
_PRINTED = re.compile(f"{_CHARACTERS}+")
_COLOURS = re.compile(f"(?:{_COLOUR})+")
_OF_CSI = re.compile(r"[\x20-\x3f]+")
_OF_STRING = re.compile(r"[^\x07\x18\x1a\x1b]+")
_CANCEL = "\x18\x1a"
_INTRODUCERS = {"]": "osc", "P": "string", "X": "string", "^": "string", "_": "string",
                "k": "string", "[": "csi"}  # fmt: skip
"""k begins a window title of screen and tmux."""


class Plain:
    """Takes terminal output in pieces, cut anywhere."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._out: list[str] = []
        self._line: list[str] = []
        self._column = 0
        self._state = ""
        self._length = 0
        self._parameters = ""

    def feed(self, data: bytes) -> str:
        """Return the lines that are complete now."""
        return self._take(self._decoder.decode(data))

    def finish(self, *, final: bool = True) -> str:
        """Return the last line, which has no end yet.

        final adds an incomplete character at its end: nothing more will come.
        """
        text = self._take(self._decoder.decode(b"", final=True)) if final else ""
        rest = "".join(self._line)
        self._line.clear()
        self._column = 0
        self._state = ""
        return text + rest

    def _take(self, text: str) -> str:
        steps = {
            "": self._ground,
            "escape": self._escape,
            "csi": self._csi,
            "osc": self._string,
            "string": self._string,
        }
        at = 0
        while at < len(text):
            at = steps[self._state](text, at)
            if self._length >= LONGEST_SEQUENCE:
                self._end_sequence()
        out = "".join(self._out)
        self._out.clear()
        return out

    def _ground(self, text: str, at: int) -> int:
        if not self._line and not self._column and (match := _LINES.match(text, at)):
            self._out.append(_COLOURS.sub("", match[0]).replace("\r\n", "\n"))
            return match.end()
        if match := _PRINTED.match(text, at):
            self._print(match[0])
            return match.end()
        if match := _COLOURS.match(text, at):
            return match.end()
        self._control(text[at])
        return at + 1

    def _escape(self, text: str, at: int) -> int:
        """After ESC: intermediate characters, then a final one."""
        char = text[at]
        if char < " " or char == "\x7f":
            return self._inside(text, at)
        if char > "\x7f":
            self._end_sequence()
            return at
        self._length += 1
        if char >= "0":
            state = _INTRODUCERS.get(char, "") if not self._parameters else ""
            if not state:
                self._end_sequence()
            self._state = state
        else:
            self._parameters = char
        return at + 1

    def _csi(self, text: str, at: int) -> int:
        if match := _OF_CSI.match(text, at, at + LONGEST_SEQUENCE - self._length):
            self._parameters += match[0]
            self._length += len(match[0])
            return match.end()
        char = text[at]
        if char < " " or char == "\x7f":
            return self._inside(text, at)
        parameters = self._parameters
        self._end_sequence()
        if char > "\x7f":
            return at
        self._obey(char, parameters)
        return at + 1

    def _string(self, text: str, at: int) -> int:
        if match := _OF_STRING.match(text, at, at + LONGEST_SEQUENCE - self._length):
            self._length += len(match[0])
            return match.end()
        if text[at] == "\x07" and self._state == "string":
            self._length += 1
            return at + 1
        if text[at] == "\x1b":
            self._begin_sequence()  # that of ST, or another sequence
        else:
            self._end_sequence()
        return at + 1

    def _inside(self, text: str, at: int) -> int:
        """Obey a control character inside a sequence, as terminals do."""
        if text[at] in _CANCEL:
            self._end_sequence()
        else:
            self._length += 1
            self._control(text[at])
        return at + 1

    def _begin_sequence(self) -> None:
        self._state = "escape"
        self._length = 1
        self._parameters = ""

    def _end_sequence(self) -> None:
        self._state = ""
        self._length = 0
        self._parameters = ""

    def _control(self, char: str) -> None:
        if char == "\x1b":
            self._begin_sequence()
        elif char == "\n":
            self._out.append("".join(self._line) + "\n")
            self._line.clear()
            self._column = 0
        elif char == "\r":
            self._column = 0
        elif char == "\b":
            self._column = max(self._column - 1, 0)

    def _print(self, text: str) -> None:
        """Write characters at the cursor, replacing others."""
        while text:
            piece = text[: LONGEST - self._column]
            text = text[len(piece) :]
            missing = self._column - len(self._line)
            if missing > 0:
                self._line += " " * missing
            self._line[self._column : self._column + len(piece)] = piece
            self._column += len(piece)
            if self._column >= LONGEST:
                self._out.append("".join(self._line))
                self._line.clear()
                self._column = 0

    def _obey(self, final: str, parameters: str) -> None:
        """Obey a CSI sequence if it concerns this line alone."""
        if final not in "CDGK" or (parameters and not re.fullmatch("[0-9]{1,5}", parameters)):
            return
        number = int(parameters or 0)
        if final == "K":
            self._erase(number)
        elif final == "D":
            self._column = max(self._column - max(number, 1), 0)
        else:
            wanted = max(number - 1, 0) if final == "G" else self._column + max(number, 1)
            self._column = min(wanted, max(self._column, _WIDEST))

    def _erase(self, which: int) -> None:
        if which == 0:
            del self._line[self._column :]
        elif which == 2:
            self._line.clear()
        elif which == 1:
            count = min(self._column + 1, len(self._line))
            self._line[:count] = " " * count
