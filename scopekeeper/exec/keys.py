r"""Translates names of keys into the bytes that a terminal sends for them. Pure.

Keys are separated by commas or spaces: ``ctrl-p,ctrl-q`` as in docker, or ``C-c Enter`` as in
tmux. A single character is itself. Arrows are those of xterm without application mode.
"""

import re

_NAMED = {
    "enter": b"\r",
    "return": b"\r",
    "tab": b"\t",
    "btab": b"\x1b[Z",
    "esc": b"\x1b",
    "escape": b"\x1b",
    "space": b" ",
    "comma": b",",
    "backspace": b"\x7f",
    "bspace": b"\x7f",
    "delete": b"\x1b[3~",
    "dc": b"\x1b[3~",
    "insert": b"\x1b[2~",
    "ic": b"\x1b[2~",
    "up": b"\x1b[A",
    "down": b"\x1b[B",
    "right": b"\x1b[C",
    "left": b"\x1b[D",
    "home": b"\x1b[H",
    "end": b"\x1b[F",
    "pageup": b"\x1b[5~",
    "pgup": b"\x1b[5~",
    "ppage": b"\x1b[5~",
    "pagedown": b"\x1b[6~",
    "pgdn": b"\x1b[6~",
    "npage": b"\x1b[6~",
    **{f"f{number}": b"\x1bO" + b"PQRS"[number - 1 : number] for number in range(1, 5)},
    **{
        f"f{number}": b"\x1b[%d~" % code
        for number, code in enumerate((15, 17, 18, 19, 20, 21, 23, 24), 5)
    },
}
_CTRL = re.compile(r"(?:ctrl|c)-(.+)", re.IGNORECASE | re.DOTALL)
_ALT = re.compile(r"(?:alt|m)-(.+)", re.IGNORECASE | re.DOTALL)
_ENCODED = re.compile(
    rb"\x1b\[(?:27;(?P<modifiers>\d{1,3});(?P<code>\d{1,7})~"
    rb"|(?P<kitty>\d{1,7})(?::\d*)*;(?P<held>\d{1,3})(?::(?P<event>\d))?(?:;[\d:]*)?u)"
)
"""A key as xterm sends it with modifyOtherKeys, which vim turns on, or by kitty's protocol."""
_SHIFT, _CTRL_HELD, _LOCKS = 1, 4, 64 | 128
"""Modifiers, caps lock and num lock: both send their sum plus one."""
_RELEASED = b"3"
DETACH = "ctrl-\\"
"""The default, as in dtach."""
_SHAPES = r"write ctrl-p, alt-x, enter, f1 or a single character, with commas between keys"


def parse(text: str) -> bytes:
    """Return the bytes that these keys send; raises ValueError with one line."""
    if text in (",", " "):
        return text.encode()
    words = [word for word in re.split(r"[,\s]+", text) if word]
    if not words:
        raise ValueError(f"{text!r} has no key; {_SHAPES}")
    return b"".join(_key(word) for word in words)


def _key(word: str) -> bytes:
    if len(word) == 1:
        return word.encode("utf-8", "surrogateescape")
    if match := _ALT.fullmatch(word):
        return b"\x1b" + _key(match[1])
    if match := _CTRL.fullmatch(word):
        return _control(word, match[1])
    try:
        return _NAMED[word.lower()]
    except KeyError:
        raise ValueError(f"{word!r} is no key; {_SHAPES}") from None


def _control(word: str, key: str) -> bytes:
    if key.lower() == "space":
        return b"\0"
    if key == "?":
        return b"\x7f"
    letter = key.upper()
    if len(letter) == 1 and "@" <= letter <= "_":
        return bytes([ord(letter) - ord("@")])
    raise ValueError(rf"{word!r} is no key: ctrl goes with a to z, space and @ [ \ ] ^ _ ?")


class Detach:
    """Finds the detach keys in the input.

    Their possible beginning is held back until the next byte decides. Typing the first key of a
    longer sequence twice passes one on, so that a program can get it. The keys are found in other
    encodings that a program can turn on, too; if they do not detach, the program gets them in the
    usual encoding.
    """

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = 0

    @property
    def waits(self) -> bool:
        """Whether the beginning of a key of several bytes is held back."""
        return bool(self._held) and self._sequence.startswith(b"\x1b")

    @property
    def hint(self) -> str:
        """How to detach, to add to a sentence; '' if no keys do."""
        keys = (f"ctrl-{chr(key + 64).lower()}" if key < 32 else chr(key) for key in self._sequence)
        return f", {','.join(keys)} detaches" if self._sequence else ""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return the input to pass on, and whether the detach keys were typed.

        Input after them is dropped.
        """
        if not self._sequence:
            return data, False
        if b"\x1b[" in data:
            data = _ENCODED.sub(self._usual, data)
        out = bytearray()
        for byte in data:
            if self._takes(byte, out):
                return bytes(out), True
        return bytes(out), False

    def release(self) -> bytes:
        """Return what was held back, as nothing more was typed."""
        held, self._held = self._sequence[: self._held], 0
        return held

    def _usual(self, key: "re.Match[bytes]") -> bytes:
        """Return a detach key in its usual encoding, another key as it is."""
        code = int(key["code"] or key["kitty"])
        held = (int(key["modifiers"] or key["held"]) - 1) & ~_LOCKS
        usual = bytes([code & 0x1F])
        if held & ~_SHIFT != _CTRL_HELD or not 0x40 <= code < 0x80 or usual not in self._sequence:
            return key[0]
        return b"" if key["event"] == _RELEASED else usual

    def _takes(self, byte: int, out: bytearray) -> bool:
        if byte == self._sequence[self._held]:
            self._held += 1
            return self._held == len(self._sequence)
        first = self._sequence[0]
        if self._held == 1 and byte == first != 0x1B:
            self._held = 0
            out.append(byte)
            return False
        # hold back the longest end that may still begin the sequence
        typed = self._sequence[: self._held] + bytes([byte])
        while typed and not self._sequence.startswith(typed):
            out.append(typed[0])
            typed = typed[1:]
        self._held = len(typed)
        return False
