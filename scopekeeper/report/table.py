"""The table of all members: cells with their values, as rows of HTML and as data to sort. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.report.markup import Markup, data, join, tag
from scopekeeper.report.model import RUNNING, Life, Report, css_class, whose, whose_titles
from scopekeeper.report.sums import lasted
from scopekeeper.safe_text import safe

AT_ONCE = 100
"""Rows that are shown at once."""
_REASON = "REASON"
_CLASSES = {
    "ENDED": "time", "SESSION": "key", _REASON: "reason", "HOST": "host", "LASTED": "number",
    "PEAK": "number", "CPU": "number", "EVIDENCE": "long", "COMMAND": "long",
}  # fmt: skip


class Cell(NamedTuple):
    """What is shown, and what is compared; value is None if it is unknown."""

    text: str
    value: float | None


TableCell = str | Cell
_UNKNOWN = Cell("-", None)


def titles(report: Report) -> list[str]:
    """Return the titles of the columns."""
    command = ["COMMAND"] if report.commands else []
    return [*whose_titles(report), "ENDED", "SESSION", "LANE", "MEMBER", _REASON, "STATUS",
            "LASTED", "PEAK", "CPU", "EVIDENCE", *command]  # fmt: skip


def rows(report: Report) -> list[list[TableCell]]:
    """Return the rows, the last end first."""
    return [_row(report, each) for each in reversed(report.lives)]


def _row(report: Report, life: Life) -> list[TableCell]:
    time = lasted(life, report.made)
    mark = "" if life.seen else "≤"
    return [
        *whose(report, life),
        Cell(RUNNING, float("inf")) if life.ended is None
        else Cell(mark + report.clock(life.ended), life.ended),
        life.session,
        life.lane,
        life.member,
        life.reason,
        life.status,
        _UNKNOWN if time is None else Cell(mark + show_duration(time), time),
        _UNKNOWN if life.memory_peak is None
        else Cell(show_bytes(life.memory_peak), life.memory_peak),
        _UNKNOWN if life.cpu is None else Cell(show_duration(life.cpu), life.cpu),
        life.evidence or "-",
        *([life.command or "-"] if report.commands else []),
    ]  # fmt: skip


def table(report: Report, found: Sequence[Sequence[TableCell]]) -> Markup:
    """Return the table with its first rows; a script shows the others."""
    names = titles(report)
    heads = [
        tag("th", tag("button", title, type="button"), scope="col", class_=_CLASSES.get(title),
            aria_sort="descending" if title == "ENDED" else None)
        for title in names
    ]  # fmt: skip
    body = [
        tag("tr", *(_cell(title, each) for title, each in zip(names, row, strict=True)))
        for row in found[:AT_ONCE]
    ]
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", join(body)), id="lives")


def _cell(title: str, cell: TableCell) -> Markup:
    text = cell.text if isinstance(cell, Cell) else cell
    swatch = tag("i", class_=f"swatch {css_class(text)}") if title == _REASON else ""
    return tag("td", swatch, text, class_=_CLASSES.get(title))


def for_script(report: Report, found: Sequence[Sequence[TableCell]]) -> Markup:
    """Return all rows for the script: a cell is its text, or its text and its value."""
    names = titles(report)
    lists = [[_for_script(each) for each in row] for row in found]
    classes = [_CLASSES.get(each, "") for each in names]
    known = {"classes": classes, "at_once": AT_ONCE, "rows": lists}
    return data(known, "data")


def _for_script(cell: TableCell) -> str | list[str | float | None]:
    if isinstance(cell, str):
        return safe(cell)
    value = cell.value if cell.value != float("inf") else 1e18  # JSON has no infinity
    return [safe(cell.text), value]
