"""The options with which a command is told what it is about."""

import functools
from collections.abc import Callable
from typing import Any

import click

from scopekeeper.errors import UsageError
from scopekeeper.names import SUFFIX
from scopekeeper.selection import Selector

_Command = Callable[..., None]


def selecting(of_names: str) -> Callable[[_Command], _Command]:
    """Give a command the options that select; it is called with ``selector``.

    of_names is the help of --name.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def selected(units: tuple[str, ...], **given: Any) -> None:  # noqa: ANN401
            fields = {key: given.pop(key) for key in _FIELDS}
            command(selector=Selector(**fields, units=frozenset(map(unit_name, units))), **given)

        for add in reversed((
            click.option("-s", "--session", metavar="KEY", help="Every scope of this session."),
            click.option("-l", "--lane", metavar="LANE", help="Only in this lane."),
            click.option("--run", metavar="RUN", help="Only this run."),
            click.option("--session-id", metavar="ID", help="Every scope of this life of a "
                         "session."),
            click.option("-n", "--name", metavar="NAME", help=of_names),
            click.argument("units", nargs=-1, metavar="[UNIT]..."),
        )):  # fmt: skip
            selected = add(selected)
        return selected

    return decorate


_FIELDS = ("session", "lane", "run", "session_id", "name")


def unit_name(word: str) -> str:
    """Return the name of the scope that was meant, which may be written without its suffix."""
    return word if word.endswith(SUFFIX) else word + SUFFIX


def require(selector: Selector, verb: str, *of_owners: str) -> None:
    """Refuse a selector that would mean everything; raises UsageError."""
    if selector.names_nothing():
        *options, last = "--session", "--session-id", "--name", *of_owners
        raise UsageError(
            f"nothing says what to {verb}",
            f"name a UNIT, or give {', '.join(options)} or {last}",
        )
