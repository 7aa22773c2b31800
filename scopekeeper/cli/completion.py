"""Names for shell completion: the metavar of an option or argument selects which it offers."""

import os
from collections.abc import Callable, Iterable, Iterator

import click
from click.shell_completion import CompletionItem

from scopekeeper import state
from scopekeeper.cli.on_hosts.options import HOST
from scopekeeper.exec.run import load_all
from scopekeeper.history.store import HistoryStore
from scopekeeper.hosts import groups
from scopekeeper.kernel.proc import mount_point
from scopekeeper.policy.load import load
from scopekeeper.policy.rules import DEFAULT
from scopekeeper.scope.model import Scope
from scopekeeper.scope.names import EPHEMERAL_LANES
from scopekeeper.scope.snapshot import Reader

_RECENT_ENDS = 1000
"""How many of the newest ends in the history offer their names."""


def _scopes() -> tuple[Scope, ...]:
    return Reader(mount_point()).snapshot(uid=os.getuid()).scopes


def _lanes() -> Iterator[str]:
    yield from (scope.lane for scope in _scopes())
    yield from {*load().lanes, *EPHEMERAL_LANES} - {DEFAULT}


def _sessions() -> Iterator[str]:
    for scope in _scopes():
        yield from (scope.session, scope.label)


def _running() -> Iterator[str]:
    for scope in _scopes():
        names = (each.name for each in scope.members)
        yield from (scope.session, scope.label, scope.unit, scope.run, *names)


def _running_or_ended() -> Iterator[str]:
    yield from _running()
    yield from (run.id for run in load_all())
    for end in HistoryStore(state.directory()).read(limit=_RECENT_ENDS):
        yield from (end.session, end.label, end.name)


def _hosts() -> Iterator[str]:
    for name, hosts in groups.load([]).items():
        yield f"@{name}"
        yield from hosts


_OPTIONS: dict[str, Callable[[], Iterable[str]]] = {
    HOST: _hosts,
    "KEY": _sessions,
    "LANE": _lanes,
    "RUN": lambda: (scope.run for scope in _scopes()),
    "ID": lambda: (scope.session_id for scope in _scopes()),
    "NAME": lambda: (each.name for scope in _scopes() for each in scope.members),
}
_ARGUMENTS: dict[str, Callable[[], Iterable[str]]] = {
    "[LANE]": _lanes,
    "RULE": lambda: (rule.title for rule in load().commands),
    "RUN": lambda: (run.id for run in load_all()),
    "RUN...": lambda: (run.id for run in load_all()),
    "[RUN|SESSION|SCOPE|MEMBER]...": _running,
    "[SESSION|RUN|SCOPE|MEMBER|SESSION/MEMBER]": _running_or_ended,
}
_FILES = ("COMMAND [ARG]...", "FILE", "[FILE]...", "PATH", "PATH...", "[UNIT] PATH...")


class _CompletedText(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """Text that is completed from a list of names."""

    name = "text"

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self._names = names

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the names that match; if listing them fails, offer nothing and print nothing."""
        del ctx, param
        try:
            found = sorted({name for name in self._names() if name.startswith(incomplete)})
        except Exception:  # noqa: BLE001  an error message would garble the command line
            return []
        # the completion protocol cannot transport a line end
        return [CompletionItem(name) for name in found if name and name.isprintable()]


def add_completion(command: click.Command) -> None:
    """Make a command and its subcommands complete their options and arguments."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            add_completion(each)
    for parameter in command.params:
        names = _ARGUMENTS if isinstance(parameter, click.Argument) else _OPTIONS
        if parameter.metavar in names:
            parameter.type = _CompletedText(names[parameter.metavar])
        elif parameter.metavar in _FILES:
            parameter.type = click.Path()  # the shell itself completes paths
