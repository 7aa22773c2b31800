"""The cells of lists: what is shown of a value, and the value, to compare and to sort. Pure."""

from collections import namedtuple
from enum import Enum

from scopekeeper.quantities import show_bytes, show_duration

ABSENT = ("", "-")
"""What a cell without a value shows."""


class Unit(Enum):
    """What the values of a column are."""

    TEXT = "a text"
    NUMBER = "a number"
    SIZE = "a size"
    """In bytes."""
    DURATION = "a duration"
    """In seconds."""
    TIME = "a time"
    """In seconds since the epoch."""


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Cell(NamedTuple):
        """One cell; value is None if there is none, or it is unknown."""

        text: str
        value: str | float | None
else:
    Cell = namedtuple("Cell", ("text", "value"))  # noqa: PYI024  typing takes 4 ms to import


def text(value: str) -> Cell:
    """Return a cell of text."""
    return Cell(value or "-", None if value in ABSENT else value)


def number(value: int | None) -> Cell:
    """Return a cell of a number."""
    return Cell("-", None) if value is None else Cell(str(value), value)


def size(count: float | None) -> Cell:
    """Return a cell of a size in bytes."""
    return Cell("-", None) if count is None else Cell(show_bytes(count), count)


def duration(seconds: float | None) -> Cell:
    """Return a cell of a duration in seconds."""
    return Cell("-", None) if seconds is None else Cell(show_duration(seconds), seconds)
