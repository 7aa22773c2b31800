"""``scopekeeper reconcile -H``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scopekeeper.cli.cells import Cell, text
from scopekeeper.cli.list_view import Row
from scopekeeper.cli.on_hosts import lists
from scopekeeper.cli.on_hosts.call import Plan
from scopekeeper.cli.on_hosts.lists import HostList, HostRow
from scopekeeper.cli.reconcile import NOTHING, columns, require_dry_run
from scopekeeper.hosts.answer import Fields

_STEP = 7
"""The place of the column WOULD, or DONE, in a row with its host."""


def plan(given: Mapping[str, Any]) -> Plan[Any]:
    """Return what hosts are asked; raises UsageError."""
    dry_run = given["dry_run"]
    require_dry_run(given["where"], dry_run=dry_run)
    titles = {"USER"} if given["all_users"] else set()
    listed = HostList(columns(dry_run=dry_run), _rows, _total, titles=lambda _: titles,
                      remarks=lambda document: document.texts("lines"))  # fmt: skip
    return lists.plan(given, listed, acts=not dry_run)


def _rows(document: Fields) -> list[HostRow]:
    return [Row(_cells(each), each) for each in document.each("actions")]


def _cells(each: Fields) -> tuple[Cell, ...]:
    member = each.text("member") or "*"
    if each.text("class") == "escaped":
        member = str(each.count("pid"))
    done = each.text("outcome") or each.text("action")
    if each.below("stopper") is not None and not each.text("outcome"):
        done = NOTHING
    return (
        text(each.text("user")),
        text(each.text("label") or each.text("session")),
        text(each.text("lane")),
        text(each.text("run")),
        text(member),
        text(each.text("class")),
        text(done),
        text(each.text("details") or each.text("evidence")),
    )


def _total(rows: Sequence[HostRow]) -> str:
    steps = Counter(row.cells[_STEP].text for row in rows)
    return ", ".join(f"{count} {step}" for step, count in steps.most_common())
