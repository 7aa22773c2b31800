"""Values of a configuration with their places in the text, for JSON, TOML and YAML alike. Pure.

Offsets count characters; start is the first character, end is one past the last.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


class ParseError(ValueError):
    """An invalid text; line and column count from 1, in characters."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Raw:
    """A number or a date as written: only whether it changed matters here."""

    text: str


@dataclass(frozen=True, slots=True)
class Value:
    """One value; data is its meaning in plain Python."""

    start: int
    end: int
    data: object
    items: tuple["Value", ...] = ()
    """The items of an array."""
    commas: tuple[int, ...] = ()
    """The offset of the comma after each item of an array; -1 if it has none."""
    members: tuple["Pair", ...] = ()
    """The members of an object or inline table."""
    block: bool = False
    """Whether it is a list or mapping of YAML without brackets."""
    trouble: str = ""
    """Why it cannot be moved as it is written; '' if it can."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A key with its value."""

    start: int
    """Where the key starts; for a dotted TOML key, its first part."""
    name_start: int
    """Where the last part of the key starts."""
    key_end: int
    key: tuple[str, ...]
    """The parts of the key, one in JSON."""
    value: Value
    comma: int = -1
    """The offset of the comma after it; -1 if there is none."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces the text from start to end."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with all edits applied; they must not overlap."""
    pieces, at = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        pieces += [text[at : edit.start], edit.text]
        at = edit.end
    return "".join([*pieces, text[at:]])


def position(text: str, at: int, line_ends: str = "\n") -> tuple[int, int]:
    """Return line and column of an offset, both from 1.

    line_ends are the characters that end a line; CR LF counts as one end.
    """
    ends = [end.end() for end in re.finditer(f"\r\n|[{line_ends}]", text[:at])]
    # a byte order mark takes no column
    start = ends[-1] if ends else int(text[:1] == "\ufeff" and at > 0)
    return len(ends) + 1, at - start + 1
