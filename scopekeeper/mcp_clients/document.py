"""What stands in a configuration, and where: the same for JSON and TOML. Pure.

Offsets count characters of the text; start is the first one's, end is one past the last.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


class ParseError(ValueError):
    """A text that is not what it has to be; line and column count from 1, in characters."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Raw:
    """A number or a date: nobody here needs to know what it means, only whether it changed."""

    text: str


@dataclass(frozen=True, slots=True)
class Value:
    """One value; data is what it means, in plain Python."""

    start: int
    end: int
    data: object
    items: tuple["Value", ...] = ()
    """Of an array."""
    commas: tuple[int, ...] = ()
    """Of an array: where the comma after each item stands, -1 after one that has none."""
    members: tuple["Pair", ...] = ()
    """Of an object, or of an inline table."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A key with its value."""

    start: int
    """Of the key; of a dotted one in TOML, of its first part."""
    name_start: int
    """Of its last part."""
    key_end: int
    key: tuple[str, ...]
    """The parts of the key, one in JSON."""
    value: Value
    comma: int = -1
    """Where the comma after it stands; -1 where there is none."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Text to put in the place of what stands from start to end."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with all the edits made; they do not overlap."""
    pieces, at = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        pieces += [text[at : edit.start], edit.text]
        at = edit.end
    return "".join([*pieces, text[at:]])


def position(text: str, at: int, line_ends: str = "\n") -> tuple[int, int]:
    """Return line and column of an offset, both from 1.

    line_ends has the characters that end a line; a CR before a LF belongs to it.
    """
    ends = [end.end() for end in re.finditer(f"\r\n|[{line_ends}]", text[:at])]
    # a byte order mark takes no column
    start = ends[-1] if ends else int(text[:1] == "\ufeff" and at > 0)
    return len(ends) + 1, at - start + 1
