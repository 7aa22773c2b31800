"""Prints the list of ``ls``: of scopes, and of runs that have ended.

``ls`` without options comes here without click, and what only few lists need is imported when they
do: tests/unit/test_imports_fast.py has the list of what is left.
"""

import os
import sys
from collections.abc import Collection, Iterator, Mapping

from scopekeeper.cli import ended_runs
from scopekeeper.cli.colour import say
from scopekeeper.cli.empty import nothing
from scopekeeper.cli.ended_runs import ENDED
from scopekeeper.cli.ends import Ends
from scopekeeper.cli.list_view import ListOptions, View
from scopekeeper.cli.ls_beneath import Beneath
from scopekeeper.cli.ls_origins import Origins
from scopekeeper.cli.ls_rows import COLUMNS, Listed, of_ended, of_scopes, total
from scopekeeper.cli.ls_unknown import unknown_memory
from scopekeeper.cli.show import answer, safe, terminal_width, unread_document, warn, warn_unread
from scopekeeper.cli.users import others, uid_of
from scopekeeper.data import dataclass, replace
from scopekeeper.errors import NOTHING_MATCHED, UsageError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.scope import names
from scopekeeper.scope.launched import Listed as Matched
from scopekeeper.scope.launched import continuations, listed
from scopekeeper.scope.model import Identity, Snapshot
from scopekeeper.scope.selection import Selector
from scopekeeper.scope.snapshot import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scopekeeper.cli.ls_rows import ListedRow
    from scopekeeper.owned.scratch_sizes import Scratch


def show(
    selector: Selector,
    words: tuple[str, ...],
    options: ListOptions,
    *,
    as_json: bool = False,
    with_ended: bool = False,
    members: bool = False,
    tree: bool = False,
    escaped: bool = False,
    all_users: bool = False,
    compare: bool = False,
) -> None:
    """Print the list, and exit with its status."""
    options.require_rows(as_json)
    if tree:
        _require_no_tree({"--json": as_json, "--all": with_ended, "--escaped": escaped})
    if escaped:
        from scopekeeper.cli import escaped as processes

        processes.show(selector, words, as_json=as_json, all_users=all_users, options=options)
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
            say(line)
    warn_unread(found.snapshot.unread)
    raise SystemExit(NOTHING_MATCHED if found.missing else 0)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is to be listed."""

    rows: "list[ListedRow]"
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
    about = None
    if words or selector != Selector():
        from scopekeeper.scope import nearby

        about = nearby.about(words, replace(selector, states=frozenset()))
    snapshot = reader.snapshot(uid=uid_of(all_users=all_users), about=about)
    ends = Ends(snapshot)
    if words:
        from scopekeeper.cli.select_options import words_in_full

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
    if missing:
        from scopekeeper.cli.select_options import say_missing

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
    scratch: Mapping[str, Scratch] = {}
    if members:
        from scopekeeper.cli.ls_scratch import scratch_of_members  # few lists have members

        scratch = scratch_of_members()
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


def _documents(found: _Found, *, with_ended: bool) -> "dict[str, Any]":
    """Return the JSON keys that list scopes, what outlives them, and with_ended, ended runs."""
    from scopekeeper.cli.ls_document import document  # few lists are JSON
    from scopekeeper.cli.ls_scratch import scratch_of_members
    from scopekeeper.cli.outliving import outliving_document

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
        from scopekeeper.cli.similar import like_selected

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
    from scopekeeper.systemd import calls

    managers = {scope.manager for scope in snapshot.scopes if scope.manager}
    known = {manager: calls.living_units(manager, names.UNITS) for manager in managers}
    return frozenset(
        scope.cgroup
        for scope in snapshot.scopes
        if scope.manager and scope.lives and scope.unit not in known[scope.manager]
    )
