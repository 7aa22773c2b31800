"""``scopekeeper ps``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from scopekeeper.cli import inside
from scopekeeper.cli.cells import Cell, Unit, duration, number, size, text
from scopekeeper.cli.colour import Paint
from scopekeeper.cli.empty import nothing
from scopekeeper.cli.examples import examples
from scopekeeper.cli.inside import Part
from scopekeeper.cli.list_options import with_list_options
from scopekeeper.cli.list_view import ListOptions, Row
from scopekeeper.cli.ls_rows import counted
from scopekeeper.cli.on_hosts.options import with_hosts
from scopekeeper.cli.select_options import NOTHING, nothing_matched, with_target_options
from scopekeeper.cli.show import answer, safe_json, terminal_width, warn, warn_unread
from scopekeeper.cli.table import Column, Fit
from scopekeeper.cli.tree import drawn, families
from scopekeeper.cli.users import uid_of, user, with_all_users
from scopekeeper.errors import NOTHING_MATCHED
from scopekeeper.kernel import listening
from scopekeeper.kernel.proc import mount_point
from scopekeeper.kernel.processes import Process
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope.nearby import about
from scopekeeper.scope.selection import Selector
from scopekeeper.scope.snapshot import Reader

COLUMNS = (
    Column("USER", extra=True),
    Column("SESSION", Fit.MIDDLE, 16, need=3, extra=True),
    Column("LANE", extra=True),
    Column("MEMBER", Fit.MIDDLE, 8),
    Column("PID", right=True, unit=Unit.NUMBER),
    Column("STATE", need=6, paints={"waiting": Paint.RED, "stopped": Paint.YELLOW,
                                    "traced": Paint.YELLOW, "zombie": Paint.DIM}),
    Column("AGE", need=4, right=True, unit=Unit.DURATION),
    Column("CPU", need=5, right=True, unit=Unit.DURATION),
    Column("RSS", need=2, right=True, unit=Unit.SIZE),
    Column("PORTS", Fit.END, 8, need=1),
    Column("COMMAND", Fit.TREE, 24),
    Column("UNIT", Fit.MIDDLE, 24, extra=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Shown:
    """A process of a member."""

    part: Part
    process: Process

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON object."""
        each = self.process
        return {
            **self.part.document,
            "pid": each.pid,
            "parent": each.parent,
            "state": each.state,
            "age_s": round(each.age, 3),
            "cpu_s": round(each.cpu, 3),
            "rss_bytes": each.resident,
            "command": safe_json(each.command),
            "listens": [
                {"protocol": x.protocol, "address": safe_json(x.address), "port": x.port}
                for x in self.part.sockets.get(each.pid, ())
            ],
        }


@click.command(
    "ps",
    epilog=examples(
        "scopekeeper ps",
        "scopekeeper ps agent:main:main",
        "scopekeeper ps --where 'rss>500M' --sort -rss",
    ),
)
@with_hosts("ps")
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_target_options()
@with_all_users("Show the processes of every user's scopes.")
@with_list_options(COLUMNS)
def command(
    selector: Selector,
    words: tuple[str, ...],
    as_json: bool,
    all_users: bool,
    options: ListOptions,
) -> None:
    """Show the processes inside of scopes and members, as a tree.

    A word is the id of a run, a session's key or id, a scope's unit, or a member's name, id or
    leaf; without one, all of yours. With --where or --sort the processes are a plain list.

    SESSION is missing on a terminal if there is only one. PORTS is what a process listens on in
    this network namespace: TCP and UDP; `ports` has the addresses, and unix sockets. STATE waiting
    is a wait that no signal ends. RSS counts the pages that processes share for each of them.

    Exit status: 0 done; 2 wrong usage; 4 a word matched nothing.
    """
    options.require_rows(as_json)
    view = options.view(COLUMNS)
    named = about(words, selector)
    snapshot = Reader(mount_point()).snapshot(uid=uid_of(all_users=all_users), about=named)
    selected, missing = inside.find(snapshot, words, selector, all_users=all_users)
    found = list(inside.parts(selected, lambda: listening.read(unix=as_json)))
    is_plain = bool(view.conditions or view.orders)
    rows = view.arranged([row for part in found for row in _rows(part, is_plain=is_plain)])
    if as_json:
        answer({"processes": [row.of.document for row in rows], "warnings": inside.unseen(found)})
    elif rows:
        sessions = {(row.of.part.scope.uid, row.of.part.scope.session) for row in rows}
        is_one = len(sessions) == 1 and terminal_width() is not None and not view.whole
        also = {"USER": all_users, "SESSION": not is_one}
        view.print(rows, also={each for each in also if also[each]}, total=_total(rows))
        warn(inside.unseen(found) if view.headers else ())
    elif not missing:
        is_named = selector != Selector() or view.conditions
        nothing(nothing_matched(selector, snapshot) if selector != Selector() else
                NOTHING if is_named else "No process runs in a scope.")  # fmt: skip
    warn_unread(snapshot.unread)
    raise SystemExit(NOTHING_MATCHED if missing else 0)


def _rows(part: Part, *, is_plain: bool) -> list[Row[_Shown]]:
    """Return the rows of a member's processes, each below its parent unless they are a list."""
    lines: Sequence[tuple[str, Process]]
    lines = [("", x) for x in part.processes] if is_plain else [*drawn(*families(part.processes))]
    return [Row(_cells(part, each, before), _Shown(part, each)) for before, each in lines]


def _cells(part: Part, each: Process, before: str) -> tuple[Cell, ...]:
    ports = dict.fromkeys(
        f"{x.port}{'' if x.protocol == 'tcp' else f'/{x.protocol}'}"
        for x in part.sockets.get(each.pid, ())
        if x.port is not None
    )
    return (
        text(user(part.scope.uid)),
        text(part.scope.shown_session),
        text(part.scope.lane),
        text(part.name),
        number(each.pid),
        text(each.state),
        duration(each.age),
        duration(each.cpu),
        size(each.resident),
        text(" ".join(ports)),
        Cell(before + each.command, each.command),
        text(part.scope.unit),
    )


def _total(rows: Sequence[Row[_Shown]]) -> str:
    every = [row.of.process for row in rows]
    members = len({(row.of.part.scope.directory, row.of.part.name) for row in rows})
    return (
        f"{counted(len(every), 'process', 'processes')} of {counted(members, 'member')}, "
        f"{show_bytes(sum(each.resident for each in every))} resident, "
        f"{show_duration(sum(each.cpu for each in every))} of CPU"
    )
