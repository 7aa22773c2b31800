"""Conditions and orders of a list's rows: ``memory>1G``, ``-cpu,session``. Pure.

What a row has was written by other processes; what is compared with it is the caller's own.
"""

import operator
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from scopekeeper.cli.cells import ABSENT, Cell, Unit
from scopekeeper.cli.table import Column
from scopekeeper.quantities import duration, since, size

_Row = TypeVar("_Row")
_SHAPE = re.compile(r"\s*([\w%-]+)\s*(!=|!~|>=|<=|=|~|>|<)(.*)", re.DOTALL)
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le,
}  # fmt: skip
_OF_TEXT = ("=", "!=", "~", "!~")
_OF_NUMBERS = ("=", "!=", *_ORDERS)


@dataclass(frozen=True, slots=True)
class Condition:
    """What the cell of one column has to fulfil."""

    at: int
    """Which of the columns."""
    how: str
    wanted: str
    number: float | None = None
    """What is wanted, in the unit of the column; None for text and for a missing value."""
    pattern: re.Pattern[str] | None = None

    def holds(self, cell: Cell) -> bool:
        """Return whether a cell fulfils it."""
        if self.how.startswith("!"):
            return not self._is(cell)
        if self.how in _ORDERS:
            is_known = isinstance(cell.value, (int, float)) and self.number is not None
            return is_known and _ORDERS[self.how](cell.value, self.number)  # type: ignore[arg-type]
        return self._is(cell)

    def _is(self, cell: Cell) -> bool:
        if self.pattern is not None:
            return isinstance(cell.value, str) and bool(self.pattern.search(cell.value))
        if self.wanted in ABSENT:
            return cell.value is None
        if cell.value is None:
            return False
        return cell.text == self.wanted or cell.value in (self.wanted, self.number)


@dataclass(frozen=True, slots=True)
class Order:
    """One column to sort by."""

    at: int
    is_falling: bool = False


def condition(text: str, columns: Sequence[Column], now: float) -> Condition:
    """Return the condition that a text states; now is in seconds since the epoch.

    Raises ValueError with one sentence.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"--where: {text!r} is no condition; write state=orphan, 'memory>1G' or session~TEXT"
        )
    name, how, wanted = match[1], match[2], match[3].strip()
    at = _index("--where", name, columns)
    column = columns[at]
    allowed = _OF_TEXT if column.unit is Unit.TEXT else _OF_NUMBERS
    if how not in allowed:
        raise ValueError(
            f"--where: {column.name} is {column.unit.value}; compare it by {' '.join(allowed)}"
        )
    if "~" in how:
        return Condition(at, how, wanted, pattern=_pattern(wanted))
    if column.values and wanted not in (*ABSENT, *column.values):
        raise ValueError(
            f"--where: {column.name} is never {wanted!r}; it is {', '.join(column.values)}"
        )
    if column.unit is Unit.TEXT or (wanted in ABSENT and how not in _ORDERS):
        return Condition(at, how, wanted)
    return Condition(at, how, wanted, _number(wanted, column, now))


def orders(text: str, columns: Sequence[Column]) -> tuple[Order, ...]:
    """Return the orders that a text states; raises ValueError with one sentence."""
    words = [word.strip() for word in text.split(",")]
    return tuple(
        Order(_index("--sort", word.lstrip("+-"), columns), word.startswith("-")) for word in words
    )


def chosen(text: str, columns: Sequence[Column]) -> tuple[int, ...]:
    """Return which columns a text names, each once; raises ValueError with one sentence."""
    words = [word.strip() for word in text.split(",")]
    return tuple(dict.fromkeys(_index("--columns", word, columns) for word in words))


def arranged(
    rows: Sequence[_Row],
    cells: Callable[[_Row], Sequence[Cell]],
    conditions: Sequence[Condition],
    by: Sequence[Order],
) -> list[_Row]:
    """Return the rows that fulfil every condition, sorted; those without a value are the last.

    Rows that are equal stay in the order in which they were.
    """
    found = [row for row in rows if all(each.holds(cells(row)[each.at]) for each in conditions)]
    for order in reversed(by):
        known = [row for row in found if cells(row)[order.at].value is not None]
        unknown = [row for row in found if cells(row)[order.at].value is None]
        known.sort(key=lambda row: cells(row)[order.at].value, reverse=order.is_falling)  # type: ignore[return-value,arg-type]
        found = [*known, *unknown]
    return found


def _index(option: str, name: str, columns: Sequence[Column]) -> int:
    fields = [column.name for column in columns]
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    if wanted not in fields:
        raise ValueError(f"{option}: there is no field {name!r}; there are {', '.join(fields)}")
    return fields.index(wanted)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of what a later Python reads otherwise
            return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"--where: {text!r} is no regular expression: {error}") from None


def _number(text: str, column: Column, now: float) -> float:
    """Return the number that a text stands for in the unit of a column; raises ValueError."""
    if text in column.words:
        return column.words[text]
    try:
        if column.unit is not Unit.TIME and re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)  # in the unit itself: bytes, seconds
        if column.unit is Unit.SIZE:
            return float(size("where", re.sub(r"[kmgt](?=(i?B)?$)", lambda x: x[0].upper(), text)))
        if column.unit is Unit.DURATION:
            return duration("where", text) / 1e6
        if column.unit is Unit.TIME:
            return since("where", text, now)
    except ValueError as error:
        known = f", or {' or '.join(column.words)}" if column.words else ""
        raise ValueError(f"{error}{known}") from None
    raise ValueError(f"--where: {text!r} is not a number")
