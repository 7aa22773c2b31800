"""``scopekeeper ls``."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import click

from scopekeeper.cli import ended_runs
from scopekeeper.cli.empty import nothing
from scopekeeper.cli.ended_runs import ENDED
from scopekeeper.cli.ends import Ends
from scopekeeper.cli.examples import examples
from scopekeeper.cli.list_options import ListOptions, View, with_list_options
from scopekeeper.cli.ls_beneath import Beneath
from scopekeeper.cli.ls_document import document
from scopekeeper.cli.ls_origins import Origins
from scopekeeper.cli.ls_rows import COLUMNS, Listed, ListedRow, of_ended, of_scopes, total
from scopekeeper.cli.outliving import outliving_document
from scopekeeper.cli.select_options import say_missing, with_target_options
from scopekeeper.cli.show import answer, safe, terminal_width, unread_document, warn_unread
from scopekeeper.cli.similar import like_selected
from scopekeeper.cli.users import others, uid_of, with_all_users
from scopekeeper.errors import NOTHING_MATCHED
from scopekeeper.kernel.proc import mount_point
from scopekeeper.scope import names
from scopekeeper.scope.launched import Listed as Matched
from scopekeeper.scope.launched import continuations, listed
from scopekeeper.scope.model import Identity, Scope, Snapshot
from scopekeeper.scope.selection import STATES, Selector
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd import calls


@click.command(
    "ls",
    epilog=examples(
        "scopekeeper ls",
        "scopekeeper ls -s agent:main:main --members",
        "scopekeeper ls --state orphan --json",
        "scopekeeper ls --where 'memory>1G' --sort -memory",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_target_options(states=(*STATES, "ghost", ENDED))
@click.option("-a", "--all", "with_ended", is_flag=True, help="Also list the newest ended runs, "
              "each with its exit status or signal.")  # fmt: skip
@click.option("--members", is_flag=True, help="Also show each member with its pid and command "
              "line.")  # fmt: skip
@click.option("--escaped", is_flag=True, help="Show processes that left their scope "
              "instead; takes words, --session and --lane.")  # fmt: skip
@with_all_users("Show the scopes of every user.")
@click.option("--all-owners", is_flag=True, hidden=True)
@click.option("--compare", is_flag=True, help="Also ask systemd, and show scopes that it does not "
              "know as ghost.")  # fmt: skip
@with_list_options(COLUMNS)
def command(
    selector: Selector,
    words: tuple[str, ...],
    as_json: bool,
    with_ended: bool,
    members: bool,
    escaped: bool,
    all_users: bool,
    all_owners: bool,
    compare: bool,
    options: ListOptions,
) -> None:
    """List your scopes.

    A word is the id of a run, a session's key or id, a scope's unit, or a member's name, id or
    leaf. The options are those of `stop`, and show the scopes in which it would stop something:
    those too in which the named members launched something, with a line that says so. With them
    are those that a stop leaves: what was started to outlive its launcher.

    ENDS is when the rules of the policy end a scope if nothing changes: now, in some time, or
    never; - is unknown, as for a scope that ends with its owner. Without a keeper it ends at the
    next reconcile after that, and a grace counts from the first one: 10s after reconcile. State
    orphan has lost its owner; kept has too, and was started to outlive it.

    TITLE is there if a session has one: its name in the files of its client, else the folder in
    which its owner runs.

    Reads files alone: works even if systemd does not answer and no keeper runs. For root, the last
    line counts the scopes of other users.

    Exit status: 0 done; 2 wrong usage; 4 a word matched nothing.
    """
    all_users = all_users or all_owners
    options.require_rows(as_json)
    if escaped:
        from scopekeeper.cli.escaped import show

        show(selector, words, as_json=as_json, all_users=all_users, options=options)
        return
    view = options.view(COLUMNS)
    reader = Reader(mount_point(), usage=True)
    snapshot = reader.snapshot(uid=uid_of(all_users=all_users))
    ends = Ends(snapshot)
    states, selector = selector.states, replace(selector, states=frozenset())
    ghosts = _ghosts(snapshot) if compare or "ghost" in states else frozenset()
    matched = listed(snapshot, words, selector)
    missing = matched.missing

    def in_states(scopes: Iterable[Scope]) -> list[tuple[Scope, str]]:
        named = ((each, "ghost" if each.cgroup in ghosts else ends.state(each)) for each in scopes)
        return [each for each in named if not states or each[1] in states]

    shown = in_states(matched.with_outliving)
    ended = None
    if with_ended or ENDED in states:
        living = {scope.unit for scope in snapshot.scopes if scope.lives}
        ended = ended_runs.find(selector, words, living, all_users=all_users)
        missing = tuple(word for word in missing if not ended_runs.has(ended, word))
        ended = ended if not states or ENDED in states else []
    say_missing(missing, snapshot, all_users=all_users)
    if not as_json:
        listed_below = {each["document"]["run"] for each in ended or ()}
        shown = [each for each in shown if each[1] != "empty" or each[0].run not in listed_below]
    rows = view.arranged([*of_scopes(shown, ends), *of_ended(ended or ())])
    if as_json:
        answer({**_documents(rows, matched, ends, snapshot, with_ended=ended is not None),
                **unread_document(snapshot.unread, reader.mount)})  # fmt: skip
        raise SystemExit(NOTHING_MATCHED if missing else 0)
    if rows or not sys.stdout.isatty():  # a script finds the header, whatever follows
        also = {title for title, is_shown in (
            ("USER", all_users), ("STATUS", ended is not None), ("TITLE", _has_title(rows)),
        ) if is_shown}  # fmt: skip
        origins = Origins([*matched.launched, *matched.outliving], continuations(snapshot))
        named = None if view.whole else {*words, selector.session}
        width = None if view.whole else terminal_width()
        beneath = Beneath(ends, reader.now, width, origins, named)
        below = [beneath.of(row.of.scope, members=members) if isinstance(row.of, Listed)
                 else beneath.lines(safe(row.of["went_on"])) for row in rows]  # fmt: skip
        view.print(rows, also=also, beneath=below, total=total(rows))
    if not (rows or missing):
        nothing(_none(replace(selector, states=states), snapshot, view, all_users=all_users))
    is_whole = view.headers and not (all_users or words or states or view.conditions)
    if os.getuid() == 0 and is_whole and selector.knows_by_name:
        line = others(_of_others(reader, selector))
        if line:
            click.echo(line)
    warn_unread(snapshot.unread)
    raise SystemExit(NOTHING_MATCHED if missing else 0)


def _documents(
    rows: Sequence[ListedRow], matched: Matched, ends: Ends, snapshot: Snapshot, *, with_ended: bool
) -> dict[str, Any]:
    """Return the JSON keys that list scopes, what outlives them, and with_ended, ended runs."""
    went_on = continuations(snapshot)
    found = {row.of.scope.directory: row.of for row in rows if isinstance(row.of, Listed)}
    named = {each.directory for each in matched.scopes}
    over = {"ended": [row.of["document"] for row in rows if not isinstance(row.of, Listed)]}
    return {
        "scopes": [
            document(each.scope, each.state, ends, snapshot.now, went_on, each.title)
            for directory, each in found.items()
            if directory in named
        ],
        "outliving": outliving_document(
            [each for each in matched.outliving if each.scope.directory in found]
        ),
        **(over if with_ended else {}),
    }


def _has_title(rows: Sequence[ListedRow]) -> bool:
    return any(isinstance(row.of, Listed) and row.of.title for row in rows)


def _none(selector: Selector, snapshot: Snapshot, view: View, *, all_users: bool) -> str:
    """Return the sentence for an empty list, with what is named alike."""
    whose = "" if all_users else " of yours"
    rest = "`scopekeeper ls` lists all, `history` what ended."
    if selector != Selector():
        like = safe(like_selected(selector, snapshot))
        session = "" if selector.session is None else f" of session {safe(repr(selector.session))}"
        return f"No scope{whose}{session} matches{like or f'; {rest}'}"
    if view.conditions:
        return f"No scope{whose} fulfils --where; {rest}"
    return (
        "No scopes."
        if all_users
        else ("You have no scopes; --all-users shows those of every user.")
    )


def _of_others(reader: Reader, selector: Selector) -> Iterator[int]:
    """Yield the uid of each matching scope of other users; its name has what is compared."""
    for unit, uid in reader.of_others(os.getuid()):
        named = names.parse_unit(unit) or ("", "", "")
        if selector.matches_identity(Identity(*named[:3])):
            yield uid


def _ghosts(snapshot: Snapshot) -> frozenset[str]:
    """Return the cgroups of scopes that have processes but no live unit in systemd."""
    managers = {scope.manager for scope in snapshot.scopes if scope.manager}
    known = {manager: calls.living_units(manager, names.UNITS) for manager in managers}
    return frozenset(
        scope.cgroup
        for scope in snapshot.scopes
        if scope.manager and scope.lives and scope.unit not in known[scope.manager]
    )
