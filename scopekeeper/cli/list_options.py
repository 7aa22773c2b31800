"""The options that every list has: which rows, in which order, which columns, and how it looks.

On a terminal a list fits its width, has colours, and ends with a total. Elsewhere it is for
programs: every column in full, a header, and nothing else, as ``docker ps`` prints it. A row that
scripts rely on (``tail -n +2``) is never a total.
"""

import functools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import click

from scopekeeper.cli import colour
from scopekeeper.cli.cells import Cell
from scopekeeper.cli.show import draw, terminal_width, with_no_trunc
from scopekeeper.cli.table import Column, wrap
from scopekeeper.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from scopekeeper.cli.list_where import Condition, Order

_Command = Callable[..., Any]
_Shown = TypeVar("_Shown")
_FIELDS = ("where", "sort", "columns", "no_headers", "color", "no_trunc")
CONDITION, FIELDS = "FIELD=VALUE", "FIELD[,FIELD]..."
"""Metavars of the options."""


class Row(NamedTuple, Generic[_Shown]):  # a dataclass takes longer to make, and ls is hot
    """One row: its cells, one for each column of the list, and what they show."""

    cells: Sequence[Cell]
    of: _Shown


@dataclass(frozen=True, slots=True)
class View:
    """What the options ask of one list with these columns."""

    columns: Sequence[Column]
    conditions: Sequence["Condition"] = ()
    orders: Sequence["Order"] = ()
    picked: Sequence[int] = ()
    """Which columns to show, if the call names them."""
    headers: bool = True
    """Whether there are lines beside the rows: a header, a total, what is not shown."""
    coloured: bool = False
    whole: bool = False

    def arranged(self, rows: Sequence[Row[_Shown]]) -> list[Row[_Shown]]:
        """Return the rows that are wanted, in the wanted order."""
        if not (self.conditions or self.orders):
            return list(rows)
        from scopekeeper.cli.list_where import arranged  # most lists have neither

        return arranged(rows, lambda row: row.cells, self.conditions, self.orders)

    def print(
        self,
        rows: Sequence[Row[_Shown]],
        *,
        also: Collection[str] = (),
        beneath: Sequence[Sequence[str]] = (),
        total: str = "",
    ) -> None:
        """Print the rows.

        also has the titles of the extra columns that are shown if the call names none. A column by
        which the rows are sorted or selected is not dropped. beneath has the lines to print under
        each row. total is the last line, on a terminal.
        """
        at = self.picked or [
            at for at, each in enumerate(self.columns) if not each.extra or each.title in also
        ]
        asked = {*(each.at for each in self.conditions), *(each.at for each in self.orders)}
        columns = [
            _needed(self.columns[each]) if self.picked or each in asked else self.columns[each]
            for each in at
        ]
        cells = [[row.cells[each].text for each in at] for row in rows]
        draw(columns, cells, beneath=beneath, whole=self.whole, headers=self.headers,
             remarks=self.headers, coloured=self.coloured)  # fmt: skip
        width = terminal_width()
        if total and self.headers and len(rows) > 1 and width is not None:
            for line in wrap(total, width):
                colour.echo(colour.painted(line, colour.Paint.BOLD if self.coloured else None))


def _needed(column: Column) -> Column:
    return Column(column.title, column.fit, column.least, right=column.right, paints=column.paints)


@dataclass(frozen=True, slots=True)
class ListOptions:
    """The options as they were given."""

    where: tuple[str, ...] = ()
    sort: str | None = None
    columns: str | None = None
    no_headers: bool = False
    color: str = colour.CHOICES[0]
    no_trunc: bool = False

    def view(self, columns: Sequence[Column]) -> View:
        """Return what they ask of a list with these columns; raises UsageError."""
        conditions: Sequence[Condition] = ()
        orders: Sequence[Order] = ()
        picked: Sequence[int] = ()
        if self.where or self.sort is not None or self.columns is not None:
            from scopekeeper.cli import list_where

            try:
                conditions = [list_where.condition(x, columns, time.time()) for x in self.where]
                orders = () if self.sort is None else list_where.orders(self.sort, columns)
                if self.columns is not None:
                    picked = list_where.chosen(self.columns, columns)
            except ValueError as error:
                raise UsageError(str(error)) from None
        return View(columns, conditions, orders, picked, not self.no_headers,
                    colour.is_wanted(self.color), self.no_trunc)  # fmt: skip

    def require_rows(self, as_json: bool) -> None:
        """Raise UsageError if JSON is asked for with options that shape a table."""
        given = [f"--{name.replace('_', '-')}" for name in ("columns", "no_headers")
                 if getattr(self, name)]  # fmt: skip
        if as_json and given:
            raise UsageError(
                f"--json and {given[0]} exclude each other", "JSON has every field, and no header"
            )


class Fields(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """Names of fields with commas between them."""

    name = "text"

    def __init__(self, columns: Sequence[Column]) -> None:
        self._names = sorted(column.name for column in columns)

    def shell_complete(
        self, ctx: click.Context | None, param: click.Parameter | None, incomplete: str
    ) -> list["CompletionItem"]:
        """Offer the fields that match the last name."""
        del ctx, param
        before, comma, last = incomplete.rpartition(",")
        sign = "-" if last.startswith("-") else ""
        return self._offered(before + comma + sign, last.removeprefix(sign), "")

    def _offered(self, before: str, begun: str, after: str) -> list["CompletionItem"]:
        from click.shell_completion import CompletionItem

        found = [name for name in self._names if name.startswith(begun.lower())]
        return [CompletionItem(before + name + after) for name in found]


class Conditions(Fields):
    """A field, how it is compared, and a value."""

    def shell_complete(
        self, ctx: click.Context | None, param: click.Parameter | None, incomplete: str
    ) -> list["CompletionItem"]:
        """Offer the fields that match."""
        del ctx, param
        return self._offered("", incomplete, "=")


def with_list_options(columns: Sequence[Column]) -> Callable[[_Command], _Command]:
    """Add the options to a command that lists these columns; it is called with ``options``."""
    return functools.partial(_with_options, columns)


def _with_options(columns: Sequence[Column], command: _Command) -> _Command:
    @functools.wraps(command)
    def with_options(**given: Any) -> Any:  # noqa: ANN401
        options = ListOptions(**{name: given.pop(name) for name in _FIELDS})
        return command(options=options, **given)

    adding: _Command = with_options
    for add in reversed((
        with_where(columns),
        click.option("--sort", metavar=FIELDS, type=Fields(columns), help="Sort by this field; "
                     "-FIELD puts the largest first. Rows without a value are last."),
        click.option("--columns", metavar=FIELDS, type=Fields(columns), help="Show these columns, "
                     f"in this order: {', '.join(column.name for column in columns)}."),
        click.option("--no-headers", is_flag=True, help="Print rows alone: no header, no total, "
                     "no remark."),
        colour.with_color,
        with_no_trunc,
    )):  # fmt: skip
        adding = add(adding)
    return adding


def with_where(columns: Sequence[Column]) -> Callable[[_Command], _Command]:
    """Add ``--where`` to a command; it is called with ``where``."""
    return click.option(
        "--where", metavar=CONDITION, multiple=True, type=Conditions(columns), help="Only rows "
        "where this is true: state=orphan, 'memory>1G', 'age<10m', session~REGEX; also !=, >=, <= "
        "and !~, and - for no value. A field is a column by its title. May be repeated: all have "
        "to be true.",
    )  # fmt: skip
