"""The arguments and options that select scopes and members, and their lookup in a snapshot."""

import functools
from collections.abc import Callable, Collection
from typing import Any

import click

from scopekeeper.cli.show import safe
from scopekeeper.errors import UsageError
from scopekeeper.scope.model import Snapshot
from scopekeeper.scope.resolve import choose
from scopekeeper.scope.selection import Selected, Selector, select

_Command = Callable[..., None]


def with_target_options(name_help: str) -> Callable[[_Command], _Command]:
    """Add the selecting options to a command; it is called with ``selector`` and ``words``."""

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_selector(**given: Any) -> None:  # noqa: ANN401
            fields = {key: given.pop(key) for key in _FIELDS}
            command(selector=Selector(**fields), **given)

        for add in reversed((
            click.option("-s", "--session", metavar="KEY", help="Every scope of this session."),
            click.option("-l", "--lane", metavar="LANE", help="Only scopes in this lane."),
            click.option("--run", metavar="RUN", help="Only this run."),
            click.option("--session-id", metavar="ID", help="Every scope of this life of a "
                         "session."),
            click.option("-n", "--name", metavar="NAME", help=name_help),
            click.argument("words", nargs=-1, metavar="[RUN|SESSION|SCOPE|MEMBER]..."),
        )):  # fmt: skip
            with_selector = add(with_selector)
        return with_selector

    return decorate


_FIELDS = ("session", "lane", "run", "session_id", "name")


def select_targets(
    snapshot: Snapshot,
    words: tuple[str, ...],
    selector: Selector,
    verb: str,
    *,
    says_missing: bool = True,
) -> tuple[list[Selected], tuple[str, ...]]:
    """Return what words and selector select together, and the words that match nothing.

    Prints those words on stderr unless says_missing is False, and how it resolved an ambiguous
    word. Raises UsageError if a word is the name of several members.
    """
    if not words:
        return select(snapshot, selector), ()
    found = choose(snapshot, words, selector)
    if found.several:
        word, members = found.several[0]
        listed = ", ".join(
            f"{each.member.leaf} in {each.scope.session}" for each in members if each.member
        )
        raise UsageError(
            f"{len(members)} members are called {word}: {listed}",
            f"{verb} one by its leaf or id, or all with --name {word}",
        )
    for note in found.notes:
        click.echo(f"scopekeeper: {safe(note)}", err=True)
    if says_missing:
        say_missing(found.missing)
    return list(found.selected), found.missing


def say_missing(words: Collection[str]) -> None:
    """Print on stderr that these words match nothing."""
    for word in words:
        click.echo(f"scopekeeper: {safe(_unknown(word))}", err=True)


def _unknown(word: str) -> str:
    from scopekeeper.exec.run import is_id, load

    run = load(word) if is_id(word) else None
    if run is not None and run.ended is not None:
        return f"the run {word} has ended already"
    return (
        f"no run, session, scope or member of yours is {word!r}; give names and ids in full, as "
        "`scopekeeper ls --members` lists them"
    )


def require_target(selector: Selector, words: tuple[str, ...], *owner_options: str) -> None:
    """Raise UsageError for a call that would select everything, or has an empty option."""
    for option in ("session", "session_id", "name", "owner"):
        if getattr(selector, option) == "":
            raise UsageError(f"--{option.replace('_', '-')} is empty", "give it a value")
    if not words and selector.names_nothing():
        *options, last = "--session", "--session-id", "--name", *owner_options
        raise UsageError(
            "no target given",
            f"name a run, session, scope or member, or give {', '.join(options)} or {last}",
        )
