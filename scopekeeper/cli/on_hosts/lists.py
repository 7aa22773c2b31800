"""One table of the rows of several hosts: with a column HOST before the others."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from scopekeeper.cli.account import paragraph
from scopekeeper.cli.cells import text
from scopekeeper.cli.list_view import ListOptions, Row, View
from scopekeeper.cli.on_hosts.call import Plan
from scopekeeper.cli.show import terminal_width
from scopekeeper.cli.table import Column, Fit
from scopekeeper.hosts.answer import Fields

COLUMN = Column("HOST", Fit.MIDDLE, 24)
_OPTIONS = ("where", "sort", "columns", "no_headers", "color", "no_trunc")
HostRow = Row[Fields]
"""A row of an answer, and the JSON object that it shows."""


def _no_lines(_: Fields) -> Sequence[str]:
    return ()


def _no_titles(_: Sequence[HostRow]) -> Collection[str]:
    return ()


@dataclass(frozen=True, slots=True)
class HostList:
    """How the documents of one command become rows."""

    columns: Sequence[Column]
    rows: Callable[[Fields], list[HostRow]]
    """Returns the rows of a document; raises BadAnswerError."""
    total: Callable[[Sequence[HostRow]], str]
    """Returns the last line, which is about all rows."""
    titles: Callable[[Sequence[HostRow]], Collection[str]] = _no_titles
    """Returns the titles of the extra columns that are shown."""
    beneath: Callable[[Fields], Sequence[str]] = _no_lines
    """Returns the lines under a row; raises BadAnswerError."""
    remarks: Callable[[Fields], Sequence[str]] = _no_lines
    """Returns the lines on a whole document, for below the table; raises BadAnswerError."""
    arrange: Callable[[list[HostRow]], list[HostRow]] = list
    """Merges the rows of all hosts, where they are not to be one host after the other."""


@dataclass(frozen=True, slots=True)
class _Read:
    rows: list[tuple[HostRow, Sequence[str]]]
    """Each with the lines beneath it."""
    remarks: Sequence[str]


def plan(
    given: Mapping[str, Any],
    hosts: HostList,
    *,
    kept: Collection[str] = (),
    more: Sequence[str] = (),
    acts: bool = False,
    whole: bool = False,
) -> Plan[_Read]:
    """Return the plan of a list; raises UsageError for wrong options.

    The hosts themselves select by ``--where``, except by the field ``host``. kept, more and acts
    are those of the plan. whole is whether the rows are sums: the hosts know no conditions on them.
    """
    options = ListOptions(**{name: given[name] for name in _OPTIONS})
    options.require_rows(given["as_json"])
    view = options.view((COLUMN, *hosts.columns))
    here = [each for each in view.conditions if each.at == 0 or whole]
    there = () if whole else [
        f"--where={text}"
        for text, each in zip(options.where, view.conditions, strict=True)
        if each.at != 0
    ]  # fmt: skip
    view = replace(view, conditions=here)

    def read(document: Fields) -> _Read:
        rows = [(row, hosts.beneath(row.of)) for row in hosts.rows(document)]
        return _Read(rows, hosts.remarks(document))

    def show(found: Mapping[str, _Read]) -> bool:
        return _print(found, hosts, view)

    return Plan(read, show, {*kept, *_OPTIONS}, [*more, *there], acts)


def _print(found: Mapping[str, _Read], hosts: HostList, view: View) -> bool:
    beneath: dict[int, Sequence[str]] = {}
    rows: list[HostRow] = []
    for host, each in found.items():
        for row, lines in each.rows:
            rows.append(Row((text(host), *row.cells), row.of))
            beneath[id(row.of)] = lines
    rows = hosts.arrange(view.arranged(rows))
    if rows or not sys.stdout.isatty():
        many = f" on {len(found)} hosts" if len(found) > 1 else ""
        view.print(
            rows,
            also=hosts.titles(rows),
            beneath=[beneath[id(row.of)] for row in rows],
            total=hosts.total(rows) + many,
        )
    return print_lines({host: each.remarks for host, each in found.items()}) or bool(rows)


def print_lines(found: Mapping[str, Sequence[str]]) -> bool:
    """Print lines, each after its host; on a terminal they wrap. Return whether there are any."""
    width = terminal_width()
    for host, lines in found.items():
        for line in lines:
            for each in paragraph(f"{host}: {line}", width):
                click.echo(each)
    return any(found.values())
