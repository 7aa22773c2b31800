"""What a list shows: which rows, in which order, which columns, and how it looks.

On a terminal a list fits its width, has colours, and ends with a total. Elsewhere it is for
programs: every column in full, a header, and nothing else, as ``docker ps`` prints it. A row that
scripts rely on (``tail -n +2``) is never a total.

``ls`` without options imports this file and not click, which takes longer than the list.
"""

import time
from collections import namedtuple
from collections.abc import Collection, Sequence

from scopekeeper.cli import colour
from scopekeeper.cli.show import draw, terminal_width
from scopekeeper.cli.table import Column, wrap
from scopekeeper.data import dataclass
from scopekeeper.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Generic, NamedTuple, TypeVar

    from scopekeeper.cli.cells import Cell
    from scopekeeper.cli.list_where import Condition, Order

    _Shown = TypeVar("_Shown")

    class Row(NamedTuple, Generic[_Shown]):
        """One row: its cells, one for each column of the list, and what they show."""

        cells: Sequence[Cell]
        of: _Shown
else:
    Row = namedtuple("Row", ("cells", "of"))  # noqa: PYI024  typing takes 4 ms to import


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

    def arranged(self, rows: "Sequence[Row[_Shown]]") -> "list[Row[_Shown]]":
        """Return the rows that are wanted, in the wanted order."""
        if not (self.conditions or self.orders):
            return list(rows)
        from scopekeeper.cli.list_where import arranged  # most lists have neither

        return arranged(rows, lambda row: row.cells, self.conditions, self.orders)

    def print(
        self,
        rows: "Sequence[Row[_Shown]]",
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
