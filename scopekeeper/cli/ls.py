"""``scopekeeper ls``."""

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import click

from scopekeeper.cli import ended_runs, ls_titles
from scopekeeper.cli.empty import nothing
from scopekeeper.cli.ended_runs import ENDED
from scopekeeper.cli.ends import Ends
from scopekeeper.cli.examples import examples
from scopekeeper.cli.ls_document import age_of, document, idle_of
from scopekeeper.cli.ls_origins import Origins
from scopekeeper.cli.outliving import outliving_document
from scopekeeper.cli.owner_title import owner_title
from scopekeeper.cli.select_options import say_missing, with_target_options
from scopekeeper.cli.show import (
    answer,
    processes,
    safe,
    table,
    terminal_width,
    unread_document,
    warn_unread,
    with_no_trunc,
)
from scopekeeper.cli.table import Column, Fit, cut, name_in_line, width_of, wrap
from scopekeeper.cli.users import others, uid_of, with_all_users
from scopekeeper.clients.ignored import why
from scopekeeper.errors import NOTHING_MATCHED
from scopekeeper.kernel.proc import mount_point
from scopekeeper.kernel.usage import MemberUsage, command_line, usage
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope import names
from scopekeeper.scope.launched import continuations, listed
from scopekeeper.scope.model import Identity, Liveness, Member, OwnerState, Scope, Snapshot
from scopekeeper.scope.selection import STATES, Selector
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd import calls

_AFTER_STATE = 5
COLUMNS = (
    Column("SESSION", Fit.MIDDLE, 22),
    Column("LANE", Fit.MIDDLE, 6, need=5),
    Column("RUN", Fit.MIDDLE, 8, need=4),
    Column("KIND", need=11),
    Column("STATE"),
    Column("MEMBERS", need=8, right=True),
    Column("PROCS", need=9, right=True),
    Column("MEMORY", need=2, right=True),
    Column("CPU", need=10, right=True),
    Column("AGE", need=3, right=True),
    Column("ENDS", need=1),
    Column("OWNER", Fit.END, 12, need=7),
)
STATUS = Column("STATUS", need=6)
"""Beside STATE where ended runs are listed too."""
TITLE = Column("TITLE", Fit.END, 16, need=6)
"""The last one, where a session has a title."""


@click.command(
    "ls",
    epilog=examples(
        "scopekeeper ls",
        "scopekeeper ls -s agent:main:main --members",
        "scopekeeper ls --state orphan --json",
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
@with_no_trunc
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
    no_trunc: bool,
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
    if escaped:
        from scopekeeper.cli.escaped import show

        show(selector, words, as_json=as_json, all_users=all_users, no_trunc=no_trunc)
        return
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

    shown = in_states(matched.scopes)
    ended = None
    if with_ended or ENDED in states:
        living = {scope.unit for scope in snapshot.scopes if scope.lives}
        ended = ended_runs.find(selector, words, living, all_users=all_users)
        missing = tuple(word for word in missing if not ended_runs.has(ended, word))
        ended = ended if not states or ENDED in states else []
    say_missing(missing, snapshot, all_users=all_users)
    if as_json:
        went_on = continuations(snapshot)
        titles = ls_titles.of([scope for scope, _ in shown])
        documents = [
            document(scope, word, ends, reader.now, went_on, titles.get(scope.cgroup, ""))
            for scope, word in shown
        ]
        over = {} if ended is None else {"ended": [each["document"] for each in ended]}
        answer({"scopes": documents, "outliving": outliving_document(matched.outliving), **over,
                **unread_document(snapshot.unread, reader.mount)})  # fmt: skip
        raise SystemExit(NOTHING_MATCHED if missing else 0)
    shown = in_states(matched.with_outliving)
    listed_below = {each["document"]["run"] for each in ended or ()}
    shown = [each for each in shown if not (each[1] == "empty" and each[0].run in listed_below)]
    if shown or ended or not sys.stdout.isatty():  # a script finds the header, whatever follows
        width = None if no_trunc else terminal_width()
        origins = Origins([*matched.launched, *matched.outliving], continuations(snapshot))
        named = None if no_trunc else {*words, selector.session}
        listing = _Listing(shown, ends, reader.now, width, origins, named)
        listing.print(ended, members=members, users=all_users)
    if not (shown or ended or missing):
        nothing(_none(replace(selector, states=states), all_users=all_users))
    if os.getuid() == 0 and not (all_users or words or states) and selector.knows_by_name:
        line = others(_of_others(reader, selector))
        if line:
            click.echo(line)
    warn_unread(snapshot.unread)
    raise SystemExit(NOTHING_MATCHED if missing else 0)


def _none(selector: Selector, *, all_users: bool) -> str:
    """Return the sentence for an empty list."""
    if selector != Selector():
        whose = "" if all_users else " of yours"
        return f"No scope{whose} matches; `scopekeeper ls` lists all, `history` what ended."
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


@dataclass(frozen=True, slots=True)
class _Listing:
    """The scopes to print, each with its state; width is that of the terminal, if any."""

    shown: list[tuple[Scope, str]]
    ends: Ends
    now: int
    width: int | None
    origins: Origins
    named: Collection[str | None] | None
    """What the call names: under the row of a label is then the session's own name. None: under
    every such row."""

    def print(self, ended: list[dict[str, Any]] | None, *, members: bool, users: bool) -> None:
        """Print the table, with a column for the status if there is a list of ended runs."""
        rows = [self._row(scope, state) for scope, state in self.shown]
        beneath = [
            [
                *self._own_name(scope, wanted=members),
                *self._warnings(scope),
                *(self._members(scope) if members else self._came(scope)),
            ]
            for scope, _ in self.shown
        ]
        uids = [scope.uid for scope, _ in self.shown]
        columns = list(COLUMNS)
        if ended is not None:
            columns.insert(_AFTER_STATE, STATUS)
            rows = [[*row[:_AFTER_STATE], "-", *row[_AFTER_STATE:]] for row in rows]
            rows += [list(each["row"]) for each in ended]
            beneath += [self._lines(safe(each["went_on"])) for each in ended]
            uids += [each["uid"] for each in ended]
        titles = ls_titles.of([scope for scope, _ in self.shown])
        if titles:
            columns.append(TITLE)
            of_scopes = [titles.get(scope.cgroup, "-") for scope, _ in self.shown]
            of_scopes += ["-"] * (len(rows) - len(of_scopes))
            rows = [[*row, title] for row, title in zip(rows, of_scopes, strict=True)]
        table(columns, rows, users=uids if users else None, beneath=beneath,
              whole=self.width is None)  # fmt: skip

    def _row(self, scope: Scope, state: str) -> list[str]:
        return [
            scope.shown_session,
            scope.lane,
            scope.run or "-",
            scope.kind or "-",
            state,
            str(len(scope.living_members)),
            str(len(scope.pids)),
            "-" if scope.memory_bytes is None else show_bytes(scope.memory_bytes),
            "-" if scope.cpu_usec is None else show_duration(scope.cpu_usec / 1e6),
            show_duration(scope.age),
            self.ends.words(scope),
            _owners(scope),
        ]

    def _own_name(self, scope: Scope, *, wanted: bool) -> list[str]:
        """Return a line with its session's own name if the row has a label instead."""
        if not scope.label or not (wanted or self.named is None or scope.session in self.named):
            return []
        return self._lines(safe(f"labelled; its own session is {scope.session}"))

    def _warnings(self, scope: Scope) -> list[str]:
        """Return the problems of its records, and the command that ends it."""
        lines = []
        if scope.damaged or scope.claims is not None:
            what, how = scope.forgery or scope.problem, scope.command_to_end(os.getuid())
            lines += self._lines(f"{safe(what)}; end it: {safe(how)}")
        for member in scope.living_members:
            if not scope.problem and member.problem:
                lines += self._lines(f"{safe(member.leaf)}: {safe(member.problem)}")
            elif member.claims:
                lines += self._lines(f"{safe(member.leaf)}: its record says {safe(member.claims)}")
        return lines

    def _lines(self, text: str) -> list[str]:
        """Return a text beneath a row; on a terminal it wraps."""
        if not text:
            return []
        return wrap(text, self.width, "    ", "      ") if self.width else [f"    {text}"]

    def _came(self, scope: Scope) -> list[str]:
        return [line for text in self.origins.of_scope(scope) for line in self._lines(safe(text))]

    def _members(self, scope: Scope) -> list[str]:
        lines = []
        for member in scope.members:
            became = self.origins.became(member)
            if became:
                lines += self._lines(f"{self._name(member)}  {safe(became)}")
                continue
            argv = command_line(member.shown_pid)
            lines += self._member(self._facts(scope, member), safe(" ".join(argv or ["-"])))
            if member.ignored:
                lines += self._lines(f"  {why(member.ignored)}")
            lines += [f"  {line}" for line in self._lines(safe(self.origins.of_member(member)))]
        holders = {member.holder for member in scope.members}
        for text, pids in (
            ("holding the scope for a place", [pid for pid in scope.strays if pid in holders]),
            ("outside every member", [pid for pid in scope.strays if pid not in holders]),
        ):
            if pids:
                lines += self._lines(f"({text}: {' '.join(map(str, pids))})")
        return lines

    def _member(self, facts: str, argv: str) -> list[str]:
        """Return the line of a member; on a terminal that it does not fit, its command has one."""
        line = f"    {facts}  {argv}"
        if self.width is None or width_of(line) <= self.width:
            return [line]
        return [*wrap(facts, self.width, "    ", "      "), cut(f"      {argv}", self.width)]

    def _facts(self, scope: Scope, member: Member) -> str:
        used: MemberUsage = usage(member.pids)
        ends = self.ends.words(member)
        until = "" if ends in ("-", "never", self.ends.words(scope)) else f", ends {ends}"
        return (
            f"{self._name(member)}  pid {member.shown_pid or '-'}  {self.ends.state(member)}{until}"
            f"  {processes(len(member.pids))}  {show_bytes(used.rss_bytes)} resident"
            f"  {show_duration(used.cpu_seconds)} CPU{_ages(member, self.now)}"
        )

    def _name(self, member: Member) -> str:
        return name_in_line(member.name, self.width) if self.width else safe(member.name)


def _owners(scope: Scope) -> str:
    """Return its owners, each once, a process as ``claude[257]``."""
    states = {
        member.owner_state.owner: member.owner_state
        for member in scope.present_members
        if member.owner_state is not None
    }
    unknown = OwnerState(scope.owner, Liveness.UNKNOWN, "")
    text = ", ".join(dict.fromkeys(map(owner_title, states.values()))) or owner_title(unknown)
    return f"{text} (another container)" if scope.elsewhere else text


def _ages(member: Member, now: int) -> str:
    age, idle = age_of(member, now), idle_of(member, now)
    text = "" if age is None else f"  {show_duration(age)} old"
    return text if idle is None else f"{text}, idle {show_duration(idle)}"
