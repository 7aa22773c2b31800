"""The arguments and options that select scopes and members, and their lookup in a snapshot."""

import functools
import time
from collections.abc import Callable, Collection, Sequence

from scopekeeper.cli.colour import say
from scopekeeper.cli.show import safe, warn_unread
from scopekeeper.cli.similar import in_full, like_selected, like_word
from scopekeeper.errors import NOTHING_MATCHED, UsageError
from scopekeeper.quantities import since
from scopekeeper.scope.model import Snapshot
from scopekeeper.scope.records import LIFETIMES
from scopekeeper.scope.resolve import Chosen, choose, meanings
from scopekeeper.scope.selection import STATES, Selected, Selector, select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    _Command = Callable[..., Any]
NOTHING = "Nothing matched; `scopekeeper ls` lists what there is."
_WORDS = "[RUN|SESSION|SCOPE|MEMBER]..."


def with_target_options(
    *, owner: str = "--owner", words: bool = True, states: Sequence[str] = STATES
) -> "Callable[[_Command], _Command]":
    """Add the selecting options to a command; it is called with ``selector`` and ``words``.

    owner is the name of the option for the owner. Without words, the command takes no arguments and
    is not called with them. states are the choices of ``--state``.
    """

    def decorate(command: "_Command") -> "_Command":
        @functools.wraps(command)
        def with_selector(**given: "Any") -> "Any":  # noqa: ANN401
            if "" in given.get("words", ()):
                raise UsageError("a word is empty", "give a name; was a variable not set?")
            return command(selector=_selector({key: given.pop(key) for key in _FIELDS}), **given)

        adding: _Command = with_selector
        added = [*_options(owner, states)]
        if words:
            import click  # not every caller of this module has loaded it

            added.append(click.argument("words", nargs=-1, metavar=_WORDS))
        for add in reversed(added):
            adding = add(adding)
        return adding

    return decorate


def with_key_options(command: "_Command") -> "_Command":
    """Add the options that select by a name; the command is called with ``selector``."""

    @functools.wraps(command)
    def with_selector(**given: "Any") -> "Any":  # noqa: ANN401
        rest = {"selected_owner": None, "mine": False, "started_before": None,
                "lifetimes": (), "states": ()}  # fmt: skip
        keys = {key: given.pop(key) for key in _KEYS}
        return command(selector=_selector(keys | rest), **given)

    adding: _Command = with_selector
    for add in reversed(_key_options()):
        adding = add(adding)
    return adding


_KEYS = ("session", "lane", "run", "session_id", "name")
_FIELDS = (*_KEYS, "selected_owner", "mine", "lifetimes", "started_before", "states")


def _key_options() -> "tuple[Callable[[_Command], _Command], ...]":
    import click

    return (
        click.option("-s", "--session", metavar="KEY", help="Only scopes of this session: the "
                     "gateway's key, the same in each of its lives, or a label."),
        click.option("-l", "--lane", metavar="LANE", help="Only scopes in this lane."),
        click.option("--run", metavar="RUN", help="Only this run."),
        click.option("--session-id", metavar="ID", help="Only scopes of one life of a session: the "
                     "gateway's id of it, another after each reset."),
        click.option("-n", "--name", metavar="NAME", help="Only members of this name."),
    )  # fmt: skip


def _options(owner: str, states: Sequence[str]) -> "tuple[Callable[[_Command], _Command], ...]":
    import click

    return (
        *_key_options(),
        click.option(owner, "selected_owner", metavar="UNIT|PID", help="Only members that belong "
                     "to this gateway."),
        click.option("--mine", is_flag=True, help="Only members of the calling gateway: its "
                     "service in any life, or its process. $SCOPEKEEPER_OWNER overrides the "
                     "caller."),
        click.option("--lifetime", "lifetimes", multiple=True, type=click.Choice(LIFETIMES),
                     help="Only scopes of this lifetime. May be repeated."),
        click.option("--started-before", metavar="TIME", help="Only members started before this "
                     "time: 2h for two hours ago, ISO 8601, or @SECONDS."),
        click.option("--state", "states", multiple=True, metavar="STATE", type=click.Choice(states),
                     help=f"Only scopes in this state: {', '.join(states)}. May be repeated."),
    )  # fmt: skip


def _selector(given: "dict[str, Any]") -> Selector:
    """Return what the options select; raises UsageError."""
    owner, is_mine, before = (given.pop(x) for x in ("selected_owner", "mine", "started_before"))
    for key in ("session", "lane", "session_id", "name"):
        if given[key] == "":
            raise UsageError(f"--{key.replace('_', '-')} is empty", "give it a value")
    if owner == "":
        raise UsageError("the owner is empty", "give a unit or a pid")
    try:
        started = None if before is None else since("started-before", before, time.time())
    except ValueError as error:
        raise UsageError(str(error)) from None
    own = None
    if is_mine:
        from scopekeeper.scope.mine import find_own
        from scopekeeper.scope.placement import Caller

        own = find_own(Caller())
    given |= {key: frozenset(given[key]) for key in ("lifetimes", "states")}
    return Selector(**given, owner=owner, own=own, started_before=started)


def select_targets(
    snapshot: Snapshot,
    words: tuple[str, ...],
    selector: Selector,
    verb: str,
    *,
    all_users: bool = False,
) -> tuple[list[Selected], tuple[str, ...]]:
    """Return what words and selector select together, and the words that match nothing.

    Prints those words on stderr, and how it resolved an ambiguous word. Raises UsageError if a word
    is the name of several members.
    """
    found = choose_targets(snapshot, words, selector, verb)
    say_missing(found.missing, snapshot, all_users=all_users)
    return list(found.selected), found.missing


def choose_targets(
    snapshot: Snapshot, words: tuple[str, ...], selector: Selector, verb: str
) -> Chosen:
    """Return what words and selector select together.

    Prints on stderr how an ambiguous word was resolved. Raises UsageError if a word is the name of
    several members.
    """
    if not words:
        return Chosen(tuple(select(snapshot, selector)), (), (), ())
    found = choose(snapshot, words, selector)
    if found.several:
        word, members = found.several[0]
        listed = ", ".join(
            f"{each.member.leaf} in {each.scope.session}" for each in members if each.member
        )
        raise several(word, listed, len(members), verb)
    for note in found.notes:
        say(f"scopekeeper: {safe(note)}", err=True)
    return found


def words_in_full(words: tuple[str, ...], snapshot: Snapshot) -> tuple[str, ...]:
    """Return the words, with the one name that a table shows as a word that names nothing.

    Prints on stderr which. Only for a command that looks: a stop takes whole names.
    """
    found = []
    for word in words:
        whole = "" if meanings(snapshot, word) else in_full(word, snapshot)
        if whole:
            say(f"scopekeeper: {safe(word)} is short for {safe(whole)}", err=True)
        found.append(whole or word)
    return tuple(found)


def several(word: str, listed: str, count: int, verb: str) -> UsageError:
    """Return the error for a word that is the name of several members."""
    return UsageError(
        f"{count} members are called {word}: {listed}",
        f"{verb} one by its leaf or id, or all with --name {word}",
    )


def say_missing(words: Collection[str], snapshot: Snapshot, *, all_users: bool) -> None:
    """Print on stderr that these words match nothing, with what is named alike."""
    for word in words:
        say(f"scopekeeper: {safe(_unknown(word, snapshot, all_users=all_users))}", err=True)


def nothing_matched(selector: Selector, snapshot: Snapshot) -> str:
    """Return the line for options that match nothing, with what is named alike."""
    alike = like_selected(selector, snapshot)
    return f"{NOTHING.removesuffix('.')}{safe(alike)}" if alike else NOTHING


def say_nothing_matched(selector: Selector, snapshot: Snapshot) -> None:
    """Print that options match nothing, and on stderr what could not be read."""
    say(nothing_matched(selector, snapshot))
    warn_unread(snapshot.unread)


def status(problems: Sequence[str], missing: Collection[str]) -> int:
    """Return the exit status of a command on targets, each with its problem or ''.

    missing are the words that match nothing.
    """
    if any(problems):
        return 1
    return 0 if problems and not missing else NOTHING_MATCHED


def _unknown(word: str, snapshot: Snapshot, *, all_users: bool) -> str:
    from scopekeeper.cli import ended_already
    from scopekeeper.exec.run import is_id, load

    run = load(word) if is_id(word) else None
    if run is not None and run.ended is not None:
        return f"the run {word} has ended already; see: scopekeeper why {word}"
    whose, option = ("", " --all-users") if all_users else (" of yours", "")
    text = f"no run, session, scope or member{whose} is {word!r}; "
    if ended := ended_already.hint(word):
        return text + ended
    return (
        f"{text}give names and ids in full, as `scopekeeper ls --members --no-trunc{option}` lists "
        f"them{like_word(word, snapshot)}"
    )


def require_target(selector: Selector, words: tuple[str, ...], owner: str = "--owner") -> None:
    """Raise UsageError for a call that would select everything; owner is that option's name."""
    if not words and selector.names_nothing():
        raise UsageError(
            "no target given",
            "name a run, session, scope or member, or give --session, --session-id, --name, "
            f"--state, {owner} or --mine; `scopekeeper ls` lists what there is",
        )
