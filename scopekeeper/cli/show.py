"""Prints results: safe text, tables that fit the terminal, versioned JSON, warnings."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from scopekeeper.cli.users import user
from scopekeeper.kernel.cgroupfs import Unread
from scopekeeper.safe_text import safe

__all__ = [
    "answer",
    "processes",
    "safe",
    "safe_json",
    "table",
    "unread_document",
    "unread_text",
    "warn",
    "warn_unread",
]

_NARROWEST = 8


def safe_json(text: str) -> str:
    """Return text that every JSON reader accepts: bytes that are not UTF-8 are escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    shrink: Sequence[int] = (),
    right: Sequence[int] = (),
    users: Sequence[int] | None = None,
    beneath: Sequence[Sequence[str]] = (),
) -> None:
    """Print a table.

    shrink has the numbers of the columns that narrow to fit a terminal, right those that align to
    the right. users has the uid of each row, for a column USER before the others. beneath has the
    lines to print under each row.
    """
    if users is not None:
        header = ("USER", *header)
        rows = [(user(uid), *row) for uid, row in zip(users, rows, strict=True)]
        shrink, right = [at + 1 for at in shrink], [at + 1 for at in right]
    cells = [[safe(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    if sys.stdout.isatty():
        _fit(widths, shrink, os.get_terminal_size(sys.stdout.fileno()).columns)
    _line(header, widths, right)
    for at, row in enumerate(cells):
        _line(row, widths, right)
        for line in beneath[at] if beneath else ():
            click.echo(line)


def _fit(widths: list[int], shrink: Sequence[int], columns: int) -> None:
    """Narrow the widest of the columns in shrink until the line fits."""
    # a terminal of unknown size reports 0 columns
    while 0 < columns < sum(widths) + 2 * (len(widths) - 1):
        widest = max(shrink, key=lambda at: widths[at], default=None)
        if widest is None or widths[widest] <= _NARROWEST:
            return
        widths[widest] -= 1


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> None:
    shown = []
    for at, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = cell if len(cell) <= width else cell[: width - 1] + "…"
        shown.append(text.rjust(width) if at in right else text.ljust(width))
    click.echo("  ".join(shown).rstrip())


def answer(document: dict[str, Any]) -> None:
    """Print a JSON document with its version first; text that is not UTF-8 is escaped."""
    import json

    click.echo(json.dumps({"version": 1, **document}, indent=2))


def warn(warnings: Sequence[str]) -> None:
    """Print warnings on stderr."""
    for text in warnings:
        click.echo(f"scopekeeper: warning: {safe(text)}", err=True)


def unread_text(unread: Sequence[Unread]) -> list[str]:
    """Return a warning that the result may be incomplete; [] if everything was read."""
    if not unread:
        return []
    places, them = ("1 place", "it") if len(unread) == 1 else (f"{len(unread)} places", "them")
    return [f"{places} could not be read; `scopekeeper ls --json` names {them}"]


def warn_unread(unread: Sequence[Unread]) -> None:
    """Warn on stderr if the result may be incomplete."""
    warn(unread_text(unread))


def unread_document(unread: Sequence[Unread], mount: str) -> dict[str, Any]:
    """Return the JSON key that lists the cgroups that could not be read."""
    return {
        "unread": [
            {"cgroup": safe_json(each.directory[len(mount) :] or "/"), "problem": each.problem}
            for each in unread
        ]
    }


def processes(number: int) -> str:
    """Return ``1 process``, ``5 processes``."""
    return f"{number} process{'' if number == 1 else 'es'}"
