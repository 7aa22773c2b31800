"""Prints results: safe text, tables that fit the terminal, versioned JSON, warnings."""

import os
import sys
from collections.abc import Sequence

from scopekeeper.cli.colour import echo, say
from scopekeeper.cli.table import Column, Fit, lay_out, wrap
from scopekeeper.cli.users import user
from scopekeeper.kernel.cgroupfs import Unread
from scopekeeper.safe_text import safe

__all__ = [
    "answer",
    "draw",
    "processes",
    "safe",
    "safe_json",
    "say_missing_columns",
    "table",
    "terminal_width",
    "unread_document",
    "unread_text",
    "warn",
    "warn_unread",
    "with_no_trunc",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _Command = TypeVar("_Command", bound=Callable[..., object])


def safe_json(text: str) -> str:
    """Return text that every JSON reader accepts: bytes that are not UTF-8 are escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def table(
    header: Sequence[str | Column],
    rows: Sequence[Sequence[str]],
    *,
    shrink: Sequence[int] = (),
    right: Sequence[int] = (),
    users: Sequence[int] | None = None,
    beneath: Sequence[Sequence[str]] = (),
    whole: bool = False,
) -> None:
    """Print a table.

    A plain title stands for a column that is always shown: shrink has the numbers of those that
    narrow to fit a terminal, right those that align to the right. users has the uid of each row,
    for a column USER before the others. beneath has the lines to print under each row. A last line
    names the columns that are dropped. With whole (see ``with_no_trunc``), and where the output is
    no terminal, every column is there in full.
    """
    columns = [
        each
        if isinstance(each, Column)
        else Column(each, Fit.END if at in shrink else Fit.NOT, right=at in right)
        for at, each in enumerate(header)
    ]
    if users is not None:
        columns.insert(0, Column("USER"))
        rows = [(user(uid), *row) for uid, row in zip(users, rows, strict=True)]
    remarks = any(column.need for column in columns)
    draw(columns, rows, beneath=beneath, whole=whole, remarks=remarks)


def draw(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    beneath: Sequence[Sequence[str]] = (),
    whole: bool = False,
    headers: bool = True,
    remarks: bool = True,
    coloured: bool = False,
) -> None:
    """Print a table (see ``table``); remarks is whether a line names what is cut or missing."""
    width = None if whole else terminal_width()
    drawn = lay_out(columns, rows, width, coloured=coloured)
    if headers:
        echo(drawn.header)
    for at, lines in enumerate(drawn.rows):
        for line in lines:
            echo(line)
        for line in beneath[at] if beneath else ():
            say(line)
    if remarks and width is not None:
        say_missing_columns(drawn.dropped, width, is_cut=drawn.is_cut)


def say_missing_columns(dropped: Sequence[str], width: int, *, is_cut: bool) -> None:
    """Print a line about the columns that are not shown, or cells that are cut; if there are."""
    what = f"not shown: {', '.join(dropped)}" if dropped else "cut to fit" if is_cut else ""
    for line in wrap(f"({what}; --no-trunc shows all)", width) if what else ():
        say(line)


def with_no_trunc(command: "_Command") -> "_Command":
    """Add the option to a command; it is called with ``no_trunc``."""
    import click

    text = "Cut nothing, and drop no column, to fit the terminal."
    return click.option("--no-trunc", "--wide", "no_trunc", is_flag=True, help=text)(command)


def terminal_width() -> int | None:
    """Return the columns of the terminal that is standard output; None if it is none."""
    if not sys.stdout.isatty():
        return None
    # a terminal of unknown size reports 0 columns
    return os.get_terminal_size(sys.stdout.fileno()).columns or None


def answer(document: "dict[str, Any]") -> None:
    """Print a JSON document with its version first; text that is not UTF-8 is escaped."""
    import json

    say(json.dumps({"version": 1, **document}, indent=2))


def warn(warnings: Sequence[str]) -> None:
    """Print warnings on stderr."""
    for text in warnings:
        say(f"scopekeeper: warning: {safe(text)}", err=True)


def unread_text(unread: Sequence[Unread]) -> list[str]:
    """Return a warning that the result may be incomplete; [] if everything was read."""
    if not unread:
        return []
    places, them = ("1 place", "it") if len(unread) == 1 else (f"{len(unread)} places", "them")
    return [f"{places} could not be read; `scopekeeper ls --json` names {them}"]


def warn_unread(unread: Sequence[Unread]) -> None:
    """Warn on stderr if the result may be incomplete."""
    warn(unread_text(unread))


def unread_document(unread: Sequence[Unread], mount: str) -> "dict[str, Any]":
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
