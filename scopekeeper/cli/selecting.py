"""The words and options that say what a command is about."""

import functools
from collections.abc import Callable
from typing import Any

import click

from scopekeeper.cli.show import safe
from scopekeeper.errors import UsageError
from scopekeeper.scope.model import Snapshot
from scopekeeper.scope.names import SUFFIX
from scopekeeper.scope.resolve import choose
from scopekeeper.scope.selection import Selected, Selector, select

_Command = Callable[..., None]


def selecting(of_names: str) -> Callable[[_Command], _Command]:
    """Give a command what selects; it is called with ``selector`` and ``words``.

    of_names is the help of --name.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def selected(**given: Any) -> None:  # noqa: ANN401
            fields = {key: given.pop(key) for key in _FIELDS}
            command(selector=Selector(**fields), **given)

        for add in reversed((
            click.option("-s", "--session", metavar="KEY", help="Every scope of this session."),
            click.option("-l", "--lane", metavar="LANE", help="Only in this lane."),
            click.option("--run", metavar="RUN", help="Only this run."),
            click.option("--session-id", metavar="ID", help="Every scope of this life of a "
                         "session."),
            click.option("-n", "--name", metavar="NAME", help=of_names),
            click.argument("words", nargs=-1, metavar="[RUN|SESSION|SCOPE|MEMBER]..."),
        )):  # fmt: skip
            selected = add(selected)
        return selected

    return decorate


_FIELDS = ("session", "lane", "run", "session_id", "name")


def unit_name(word: str) -> str:
    """Return the name of the scope that was meant, which may be written without its suffix."""
    return word if word.endswith(SUFFIX) else word + SUFFIX


def chosen(
    snapshot: Snapshot, words: tuple[str, ...], selector: Selector, verb: str
) -> tuple[list[Selected], tuple[str, ...]]:
    """Return what words and selector mean together, and the words that mean nothing.

    Says on stderr which words those are, and what was chosen where a word can mean several things.
    Raises UsageError where a word is the name of several members.
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
    for word in found.missing:
        click.echo(f"scopekeeper: {safe(_unknown(word))}", err=True)
    return list(found.selected), found.missing


def _unknown(word: str) -> str:
    from scopekeeper.exec.run import is_id, load

    run = load(word) if is_id(word) else None
    if run is not None and run.ended is not None:
        return f"the run {word} has ended already"
    return (
        f"no run, session, scope or member of yours is {word!r}, and a part of an id is not "
        "enough; `scopekeeper ls --members` lists what there is"
    )


def require(selector: Selector, words: tuple[str, ...], verb: str, *of_owners: str) -> None:
    """Refuse what would mean everything, or was meant to name something; raises UsageError."""
    for option in ("session", "session_id", "name", "owner"):
        if getattr(selector, option) == "":
            raise UsageError(f"--{option.replace('_', '-')} is empty", "give it a value")
    if not words and selector.names_nothing():
        *options, last = "--session", "--session-id", "--name", *of_owners
        raise UsageError(
            f"nothing says what to {verb}",
            f"name a run, session, scope or member, or give {', '.join(options)} or {last}",
        )
