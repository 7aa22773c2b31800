"""``scopekeeper ls``."""

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

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
from scopekeeper.cli.ls_scratch import scratch_of_members
from scopekeeper.cli.ls_unknown import unknown_memory
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.outliving import outliving_document
from scopekeeper.cli.select_options import say_missing, with_target_options, words_in_full
from scopekeeper.cli.show import answer, safe, terminal_width, unread_document, warn, warn_unread
from scopekeeper.cli.similar import like_selected
from scopekeeper.cli.users import others, uid_of, with_all_users
from scopekeeper.errors import NOTHING_MATCHED, UsageError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.scope import names
from scopekeeper.scope.launched import Listed as Matched
from scopekeeper.scope.launched import continuations, listed
from scopekeeper.scope.model import Identity, Snapshot
from scopekeeper.scope.selection import STATES, Selector
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd import calls


@click.command(
    "ls",
    epilog=examples(
        "scopekeeper ls",
        "scopekeeper ls -s agent:main:main --members",
        "scopekeeper ls --state orphan --json",
        "scopekeeper ls --tree",
        "scopekeeper ls --where 'memory>1G' --sort -memory",
    ),
)
@with_hosts("ls")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_target_options(states=(*STATES, "ghost", ENDED))
@click.option("-a", "--all", "with_ended", is_flag=True, help="Also list the newest ended runs, "
              "each with its exit status or signal.")  # fmt: skip
@click.option("--members", is_flag=True, help="Also show each member with its pid and command "
              "line.")  # fmt: skip
@click.option("--tree", is_flag=True, help="Show sessions, lanes, scopes, members and processes "
              "as a tree.")  # fmt: skip
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
    tree: bool,
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

    With --tree, RSS is the memory of the living processes, which count shared pages each; CPU is
    that of the cgroup, and --columns has the columns of the tree.

    Reads files alone: works even if systemd does not answer and no keeper runs. For root, the last
    line counts the scopes of other users.

    Exit status: 0 done; 2 wrong usage; 4 a word matched nothing.
    """
    all_users = all_users or all_owners
    options.require_rows(as_json)
    if tree:
        _require_no_tree({"--json": as_json, "--all": with_ended, "--escaped": escaped})
    if escaped:
        from scopekeeper.cli.escaped import show

        show(selector, words, as_json=as_json, all_users=all_users, options=options)
        return
    fields = _of_tree(options) if tree else options.view(COLUMNS)
    reader = Reader(mount_point(), usage=True)
    with_ended = with_ended or ENDED in selector.states
    found = _find(reader, selector, words, fields, compare=compare, with_ended=with_ended,
                  for_json=as_json, all_users=all_users)  # fmt: skip
    if as_json:
        answer({**_documents(found, with_ended=with_ended),
                **unread_document(found.snapshot.unread, reader.mount)})  # fmt: skip
        raise SystemExit(NOTHING_MATCHED if found.missing else 0)
    if tree:
        _print_tree(found, replace(options, where=(), sort=None), users=all_users)
    elif found.has_table:
        named = None if fields.whole else {*words, selector.session}
        also = {"USER": all_users, "STATUS": with_ended}
        _print(found, fields, named, {each for each in also if also[each]}, members=members)
    if not (found.rows or found.missing):
        nothing(_none(selector, found.snapshot, fields, all_users=all_users))
    is_whole = fields.headers and not (all_users or words or selector.states or fields.conditions)
    if os.getuid() == 0 and is_whole and selector.knows_by_name:
        line = others(_of_others(reader, selector))
        if line:
            click.echo(line)
    warn_unread(found.snapshot.unread)
    raise SystemExit(NOTHING_MATCHED if found.missing else 0)


class _Found(NamedTuple):
    """What is to be listed."""

    rows: list[ListedRow]
    matched: Matched
    missing: tuple[str, ...]
    """The words that name nothing."""
    snapshot: Snapshot
    ends: Ends

    @property
    def has_table(self) -> bool:
        """Whether to print it: a script finds the header, unless a word was an error."""
        return bool(self.rows) or not (sys.stdout.isatty() or self.missing)


def _find(
    reader: Reader,
    selector: Selector,
    words: tuple[str, ...],
    view: View,
    *,
    compare: bool,
    with_ended: bool,
    for_json: bool,
    all_users: bool,
) -> _Found:
    """Read the machine; prints on stderr which words name nothing."""
    snapshot = reader.snapshot(uid=uid_of(all_users=all_users))
    ends = Ends(snapshot)
    words = words_in_full(words, snapshot)
    states, selector = selector.states, replace(selector, states=frozenset())
    ghosts = _ghosts(snapshot) if compare or "ghost" in states else frozenset()
    matched = listed(snapshot, words, selector)
    missing = matched.missing
    named = (
        (each, "ghost" if each.cgroup in ghosts else ends.state(each))
        for each in matched.with_outliving
    )
    shown = [each for each in named if not states or each[1] in states]
    ended: list[dict[str, Any]] = []
    if with_ended:
        living = {scope.unit for scope in snapshot.scopes if scope.lives}
        ended = ended_runs.find(selector, words, living, all_users=all_users)
        missing = tuple(word for word in missing if not ended_runs.has(ended, word))
        ended = ended if not states or ENDED in states else []
    say_missing(missing, snapshot, all_users=all_users)
    if not for_json:
        listed_below = {each["document"]["run"] for each in ended}
        shown = [each for each in shown if each[1] != "empty" or each[0].run not in listed_below]
    listed_rows = [*of_scopes(shown, ends), *of_ended(ended)]
    warn(unknown_memory(view, [row.of.scope for row in listed_rows if isinstance(row.of, Listed)]))
    rows = view.arranged(listed_rows)
    return _Found(rows, matched, missing, snapshot, ends)


def _require_no_tree(others: Mapping[str, bool]) -> None:
    """Raise UsageError if an option is given that --tree excludes."""
    for name in (name for name, is_given in others.items() if is_given):
        raise UsageError(f"--tree and {name} exclude each other", "give one of them")


def _of_tree(options: ListOptions) -> View:
    """Return which scopes a tree has, in which order; raises UsageError."""
    try:
        return replace(options, columns=None).view(COLUMNS)
    except UsageError as error:
        raise UsageError(
            error.message,
            "with --tree, --where and --sort are about scopes, by the fields of `ls` without it",
        ) from None


def _print_tree(found: _Found, options: ListOptions, *, users: bool) -> None:
    from scopekeeper.cli import ls_tree  # few lists are trees

    scopes = [row.of for row in found.rows if isinstance(row.of, Listed)]
    rows = ls_tree.rows(scopes, found.ends, found.snapshot.now, users=users)
    view = options.view(ls_tree.COLUMNS)
    if found.has_table:
        view.print(rows, total=total(found.rows) if len(scopes) > 1 else "")


def _print(
    found: _Found,
    view: View,
    named: Collection[str | None] | None,
    also: set[str],
    *,
    members: bool,
) -> None:
    """Print the table; also has the titles of the columns that are there beside the usual ones."""
    matched = found.matched
    origins = Origins([*matched.launched, *matched.outliving], continuations(found.snapshot))
    width = None if view.whole else terminal_width()
    scratch = scratch_of_members() if members else {}
    beneath = Beneath(found.ends, found.snapshot.now, width, origins, named, scratch)
    below = [
        beneath.of(row.of.scope, members=members)
        if isinstance(row.of, Listed)
        else beneath.lines(safe(row.of["went_on"]))
        for row in found.rows
    ]
    if any(isinstance(row.of, Listed) and row.of.title for row in found.rows):
        also = also | {"TITLE"}
    view.print(found.rows, also=also, beneath=below, total=total(found.rows))


def _documents(found: _Found, *, with_ended: bool) -> dict[str, Any]:
    """Return the JSON keys that list scopes, what outlives them, and with_ended, ended runs."""
    went_on = continuations(found.snapshot)
    ends, now, matched = found.ends, found.snapshot.now, found.matched
    scratch = scratch_of_members()
    shown = {row.of.scope.directory: row.of for row in found.rows if isinstance(row.of, Listed)}
    named = {each.directory for each in matched.scopes}
    over = {"ended": [row.of["document"] for row in found.rows if not isinstance(row.of, Listed)]}
    return {
        "scopes": [
            document(each.scope, each.state, ends, now, went_on, each.title, scratch)
            for directory, each in shown.items()
            if directory in named
        ],
        "outliving": outliving_document(
            [each for each in matched.outliving if each.scope.directory in shown]
        ),
        **(over if with_ended else {}),
    }


def _none(selector: Selector, snapshot: Snapshot, view: View, *, all_users: bool) -> str:
    """Return the sentence for an empty list, with what is named alike."""
    whose = "" if all_users else " of yours"
    rest = "`scopekeeper ls` lists all, `history` what ended."
    if selector != Selector():
        like = safe(like_selected(selector, snapshot))
        session = "" if selector.session is None else f" session {safe(repr(selector.session))}"
        return f"No scope{whose} matches{session}{like or f'; {rest}'}"
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
