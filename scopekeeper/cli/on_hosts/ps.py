"""``scopekeeper ps -H``."""

from collections.abc import Mapping, Sequence
from typing import Any

from scopekeeper.cli.cells import Cell, duration, number, size, text
from scopekeeper.cli.list_view import Row
from scopekeeper.cli.ls_rows import counted
from scopekeeper.cli.on_hosts import lists
from scopekeeper.cli.on_hosts.call import Plan, refuse
from scopekeeper.cli.on_hosts.lists import HostList, HostRow
from scopekeeper.cli.ps import COLUMNS
from scopekeeper.cli.tree import drawn, families
from scopekeeper.hosts.answer import Fields
from scopekeeper.kernel.processes import Process
from scopekeeper.quantities import show_bytes, show_duration


def plan(given: Mapping[str, Any]) -> Plan[Any]:
    """Return what hosts are asked; raises UsageError."""
    refuse(given, mine="--mine")
    is_plain = bool(given["where"] or given["sort"])
    titles = {"SESSION"} | ({"USER"} if given["all_users"] else set())
    listed = HostList(COLUMNS, lambda x: _rows(x, is_plain=is_plain), _total,
                      titles=lambda _: titles)  # fmt: skip
    return lists.plan(given, listed)


def _rows(document: Fields, *, is_plain: bool) -> list[HostRow]:
    """Return the rows of a document, each process below its parent unless they are a list."""
    every = document.each("processes")
    if is_plain:
        return [Row(_cells(each, ""), each) for each in every]
    parts: dict[tuple[str, str], list[Fields]] = {}
    for each in every:
        parts.setdefault((each.text("unit"), each.text("member_id")), []).append(each)
    return [row for part in parts.values() for row in _tree(part)]


def _tree(part: Sequence[Fields]) -> list[HostRow]:
    """Return the rows of one member; what is in no tree, as no real process is, comes last."""
    known = {each.count("pid") or 0: each for each in part}
    found = [
        Process(pid, each.count("parent") or 0, "", 0.0, 0.0, 0, "") for pid, each in known.items()
    ]
    shown = [(before, known[each.pid]) for before, each in drawn(*families(found))]
    in_tree = {id(each) for _, each in shown}
    rest = [("", each) for each in part if id(each) not in in_tree]
    return [Row(_cells(each, before), each) for before, each in (*shown, *rest)]


def _cells(each: Fields, before: str) -> tuple[Cell, ...]:
    ports = dict.fromkeys(
        f"{x.count('port')}{'' if x.text('protocol') == 'tcp' else '/' + x.text('protocol')}"
        for x in each.each("listens")
        if x.count("port") is not None
    )
    command = each.text("command")
    return (
        text(each.text("user")),
        text(each.text("label") or each.text("session")),
        text(each.text("lane")),
        text(each.text("member")),
        number(each.count("pid")),
        text(each.text("state")),
        duration(each.number("age_s")),
        duration(each.number("cpu_s")),
        size(each.number("rss_bytes")),
        text(" ".join(ports)),
        Cell(before + command, command),
        text(each.text("unit")),
    )


def _total(rows: Sequence[HostRow]) -> str:
    every = [row.of for row in rows]
    members = len({(row.cells[0].text, x.text("unit"), x.text("member_id"))
                   for row, x in zip(rows, every, strict=True)})  # fmt: skip
    return (
        f"{counted(len(every), 'process', 'processes')} of {counted(members, 'member')}, "
        f"{show_bytes(sum(x.number('rss_bytes') or 0 for x in every))} resident, "
        f"{show_duration(sum(x.number('cpu_s') or 0 for x in every))} of CPU"
    )
