"""``scopekeeper ports -H``."""

from collections.abc import Mapping
from typing import Any

from scopekeeper.cli.cells import Cell, number, text
from scopekeeper.cli.list_view import Row
from scopekeeper.cli.ls_rows import counted
from scopekeeper.cli.on_hosts import lists
from scopekeeper.cli.on_hosts.call import Plan, refuse
from scopekeeper.cli.on_hosts.lists import HostList, HostRow
from scopekeeper.cli.ports import COLUMNS
from scopekeeper.hosts.answer import Fields
from scopekeeper.kernel.listening import with_port


def plan(given: Mapping[str, Any]) -> Plan[Any]:
    """Return what hosts are asked; raises UsageError."""
    refuse(given, mine="--mine")
    titles = {"USER"} if given["all_users"] else set()
    listed = HostList(COLUMNS, _rows, lambda rows: counted(len(rows), "socket"),
                      titles=lambda _: titles)  # fmt: skip
    return lists.plan(given, listed)


def _rows(document: Fields) -> list[HostRow]:
    return [Row(_cells(each), each) for each in document.each("ports")]


def _cells(each: Fields) -> tuple[Cell, ...]:
    pids = each.counts("pids")
    port = each.count("port")
    return (
        text(each.text("user")),
        text(each.text("protocol")),
        text(with_port(each.text("address"), port)),
        text(each.text("label") or each.text("session")),
        text(each.text("lane")),
        text(each.text("member")),
        number(pids[0] if pids else None),
        text(each.text("command")),
        number(port),
        text(each.text("unit")),
    )
