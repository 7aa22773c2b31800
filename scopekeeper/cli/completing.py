"""What the Tab key offers: names of what is there now, by what an option or argument is called."""

import os
from collections.abc import Callable, Iterable, Iterator

import click
from click.shell_completion import CompletionItem

from scopekeeper import state
from scopekeeper.exec.run import load_all
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel.proc import mount_point
from scopekeeper.policy.load import load
from scopekeeper.policy.rules import DEFAULT
from scopekeeper.scope.model import Scope
from scopekeeper.scope.names import EPHEMERAL_LANES
from scopekeeper.scope.snapshot import Reader

_REMEMBERED = 1000
"""Ends of the history whose names are offered."""


def _scopes() -> tuple[Scope, ...]:
    return Reader(mount_point()).snapshot(uid=os.getuid()).scopes


def _lanes() -> Iterator[str]:
    yield from (scope.lane for scope in _scopes())
    yield from {*load().lanes, *EPHEMERAL_LANES} - {DEFAULT}


def _living() -> Iterator[str]:
    for scope in _scopes():
        names = (each.name for each in scope.members)
        yield from (scope.session, scope.unit, scope.run, *names)


def _told_of() -> Iterator[str]:
    yield from _living()
    yield from (run.id for run in load_all())
    for end in HistoryStore(state.directory()).read(limit=_REMEMBERED):
        yield from (end.session, end.name)


_OPTIONS: dict[str, Callable[[], Iterable[str]]] = {
    "KEY": lambda: (scope.session for scope in _scopes()),
    "LANE": _lanes,
    "RUN": lambda: (scope.run for scope in _scopes()),
    "ID": lambda: (scope.session_id for scope in _scopes()),
    "NAME": lambda: (each.name for scope in _scopes() for each in scope.members),
}
_ARGUMENTS: dict[str, Callable[[], Iterable[str]]] = {
    "[LANE]": _lanes,
    "RUN": lambda: (run.id for run in load_all()),
    "RUN...": lambda: (run.id for run in load_all()),
    "[RUN|SESSION|SCOPE|MEMBER]...": _living,
    "SESSION|RUN|SCOPE|MEMBER": _told_of,
}
_FILES = ("COMMAND [ARG]...", "FILE", "[FILE]...", "PATH", "PATH...", "[UNIT] PATH...")


class _Offered(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A value of which those that there are can be listed."""

    name = "text"

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self._names = names

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer what is listed; where that fails nothing, and nothing is said."""
        del ctx, param
        try:
            found = sorted({name for name in self._names() if name.startswith(incomplete)})
        except Exception:  # noqa: BLE001  a message in the middle of a command line helps nobody
            return []
        # a line end in a name cannot be told to a shell
        return [CompletionItem(name) for name in found if name and name.isprintable()]


def teach(command: click.Command) -> None:
    """Have a command, and those below it, answer the Tab key with what there is."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            teach(each)
    for parameter in command.params:
        names = _ARGUMENTS if isinstance(parameter, click.Argument) else _OPTIONS
        if parameter.metavar in names:
            parameter.type = _Offered(names[parameter.metavar])
        elif parameter.metavar in _FILES:
            parameter.type = click.Path()  # the shell knows files best
