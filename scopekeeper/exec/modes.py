"""Modes that a program's output turned on in the terminal: turns them off, or on again. Pure."""

import re
from collections.abc import Callable, Sequence

_USUAL = frozenset({7, 25})
"""Private modes that are on in a new terminal: wrapping, the cursor."""
_LEFT_ALONE = frozenset({3, 40, 1034, 1048})
"""Undoing these would clear the screen, move the cursor, or change the user's settings."""
_RESTORED = frozenset({1, 5, 6, 7, 9, 12, 25, 66, 2004, 2031, *range(1000, 1008), 1015, 1016})
"""Private modes that are turned on again on another terminal: keys, cursor, wrapping, mouse."""
ALTERNATE = (47, 1047, 1049)
_LONGEST = 256
"""Bytes of an unfinished sequence to keep; the known ones are short."""
_DIGITS = 4
"""Of a mode's number; there are no larger ones."""
_SEQUENCE = re.compile(
    rb"\x1b(?:\[\?(?P<private>[\d;]+)(?P<state>[hl])"
    rb"|\[(?P<sgr>[\d;:]*)m"
    rb"|\[(?P<margins>[\d;]*)r"
    rb"|\[>(?P<modify>[\d;]*)m"
    rb"|\[(?P<kitty>[<>])\d*u"
    rb"|\[(?P<shape>\d?) q"
    rb"|\((?P<charset>[0-9A-Z])"
    rb"|(?P<keypad>[=>])"
    rb"|(?P<reset>c|\[!p))"
)
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|\(|)\Z")


_TURNS_ON: dict[str, Callable[[bytes], bool]] = {
    "sgr": lambda value: value not in (b"", b"0"),
    "margins": lambda value: value != b"",
    "modify": lambda value: value.startswith(b"4;") and value not in (b"4;0", b"4;"),
    "shape": lambda value: value not in (b"", b"0"),
    "charset": lambda value: value != b"B",
    "keypad": lambda value: value == b"=",
}
_TURNS_OFF = {
    "modify": b"\x1b[>4m",
    "keypad": b"\x1b>",
    "shape": b"\x1b[0 q",
    "shift": b"\x0f",
    "charset": b"\x1b(B",
    "sgr": b"\x1b[m",
    # without the scroll region the cursor goes home
    "margins": b"\x1b7\x1b[r\x1b8",
}


class Modes:
    """Follows an output, piece by piece."""

    def __init__(self) -> None:
        self._rest = b""
        self._reset()

    @property
    def alternate(self) -> bool:
        """Whether the alternate screen is shown: a full-screen program has it."""
        return any(self._private.get(mode) for mode in ALTERNATE)

    def feed(self, data: bytes) -> None:
        """Follow bytes that go to the terminal; sequences may be cut anywhere."""
        out, back = data.rfind(b"\x0e"), data.rfind(b"\x0f")
        if out != back:
            self._on["shift"] = b"\x0e" if out > back else b""
        if not self._rest and b"\x1b" not in data:
            return  # most output; searching for sequences takes ten times as long
        data = self._rest + data
        end = _UNFINISHED.search(data, max(len(data) - _LONGEST, 0))
        self._rest = end[0] if end else b""
        for match in _SEQUENCE.finditer(data, 0, len(data) - len(self._rest)):
            name = match.lastgroup or ""
            self._take(name, match)

    def undo(self) -> bytes:
        """Return what turns all of them off; empty if none is on."""
        odd = [
            mode
            for mode, on in self._private.items()
            if on != (mode in _USUAL) and mode not in _LEFT_ALONE
        ]
        # keyboard modes and the cursor belong to the screen that is shown, so that goes last
        odd.sort(key=lambda mode: mode in ALTERNATE)
        out = b"\x1b[<u" * self._kitty
        out += b"".join(b"\x1b[?%d%c" % (mode, b"lh"[mode in _USUAL]) for mode in odd)
        return out + b"".join(off for name, off in _TURNS_OFF.items() if self._on.get(name))

    def again(self, without: Sequence[int] = ()) -> bytes:
        """Return what turns them on in another terminal: those of ``_RESTORED``, keypad, cursor."""
        odd = [
            b"\x1b[?%d%c" % (mode, b"lh"[on])
            for mode, on in self._private.items()
            if mode in _RESTORED and mode not in without and on != (mode in _USUAL)
        ]
        return b"".join(odd) + self._on.get("keypad", b"") + self._on.get("shape", b"")

    def _reset(self) -> None:
        self._private: dict[int, bool] = {}
        self._on: dict[str, bytes] = {}
        self._kitty = 0

    def _take(self, name: str, match: "re.Match[bytes]") -> None:
        value = match[name]
        if name == "state":
            for number in match["private"].split(b";"):
                if 0 < len(number) <= _DIGITS:
                    self._private[int(number)] = value == b"h"
        elif name == "kitty":
            # no program pushes more than a few
            self._kitty = min(max(self._kitty + (1 if value == b">" else -1), 0), 8)
        elif name == "reset":
            self._reset()
        else:
            self._on[name] = match[0] if _TURNS_ON[name](value) else b""
