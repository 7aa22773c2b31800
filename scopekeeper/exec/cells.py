"""What stands in one place of a terminal, and how renditions (SGR) change it. Pure."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

_LONGEST = 32
"""Characters of one colour; what is longer is none."""
_ENDS = {22: ("1", "2"), 23: ("3",), 24: ("4",), 25: ("5", "6"), 27: ("7",), 28: ("8",), 29: ("9",)}
"""What turns which attributes off."""


class Cell(NamedTuple):
    """Text, and its colours and attributes as SGR has them (``38;5;208``, ``4``, ``4:3``)."""

    data: str = " "
    fg: str = ""
    bg: str = ""
    on: frozenset[str] = frozenset()

    @property
    def sgr(self) -> str:
        """The parameters that select all this."""
        return ";".join(["0", *sorted(self.on), *filter(None, (self.fg, self.bg))])


@functools.lru_cache(maxsize=1024)
def rendered(cell: Cell, parameters: str) -> Cell:
    """Return a cell with the renditions of one SGR sequence."""
    for number, text in _renditions(parameters.split(";")):
        if number == 0:
            cell = Cell()
        elif 30 <= number <= 39 or 90 <= number <= 97:
            cell = cell._replace(fg="" if number == 39 else text)
        elif 40 <= number <= 49 or 100 <= number <= 107:
            cell = cell._replace(bg="" if number == 49 else text)
        elif number in _ENDS or text == "4:0":
            cell = _without(cell, _ENDS.get(number, ("4",)))
        elif 1 <= number <= 9:
            cell = _without(cell, (str(number),))
            cell = cell._replace(on=cell.on | {text})
        elif number == 21:
            cell = cell._replace(on=cell.on | {"4"})
    return cell


def _without(cell: Cell, attributes: tuple[str, ...]) -> Cell:
    kept = (each for each in cell.on if each.split(":")[0] not in attributes)
    return cell._replace(on=frozenset(kept))


def _renditions(words: list[str]) -> Iterator[tuple[int, str]]:
    """Yield each rendition as number and whole text: a colour can take up several words."""
    rest = iter(words)
    for word in rest:
        head = word.split(":")[0]
        if len(word) > _LONGEST or (head and not head.isdecimal()):
            continue
        number = int(head or 0)
        if number not in (38, 48, 58) or ":" in word:
            yield number, word or "0"
            continue
        kind = next(rest, "")
        values = [next(rest, "") for _ in range({"5": 1, "2": 3}.get(kind, 0))]
        if values and all(_is_byte(value) for value in values):
            yield number, ";".join([word, kind, *(value or "0" for value in values)])


def _is_byte(value: str) -> bool:
    return not value or (value.isdecimal() and len(value) <= 3 and int(value) < 256)
