"""The options that every list has: which rows, in which order, which columns, and how it looks."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from scopekeeper.cli import colour
from scopekeeper.cli.list_view import ListOptions
from scopekeeper.cli.show import with_no_trunc
from scopekeeper.cli.table import Column

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_Command = Callable[..., Any]
_FIELDS = ("where", "sort", "columns", "no_headers", "color", "no_trunc")
CONDITION, FIELDS = "FIELD=VALUE", "FIELD[,FIELD]..."
"""Metavars of the options."""


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
