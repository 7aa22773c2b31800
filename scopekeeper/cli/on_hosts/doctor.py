"""``scopekeeper doctor -H``: what is not as it should be, by host."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from scopekeeper.cli import colour
from scopekeeper.cli.doctor import PAINTS
from scopekeeper.cli.on_hosts.call import Plan
from scopekeeper.cli.on_hosts.lists import COLUMN, print_lines
from scopekeeper.cli.show import draw, safe, terminal_width
from scopekeeper.cli.table import Column, Fit, wrap
from scopekeeper.doctor.finding import Status
from scopekeeper.hosts.answer import Fields

_NOT_USABLE = 2


def plan(given: Mapping[str, Any]) -> Plan[Any]:
    """Return what hosts are asked."""
    coloured = colour.is_wanted(given["color"])

    def show(found: Mapping[str, _Read]) -> bool:
        return _print(found, coloured=coloured)

    return Plan(_read, show, kept=("color",), failed=_NOT_USABLE)


_Read = tuple[str, list[tuple[str, str, str, str]]]
"""The verdict, and status, name, detail and fix of each check that has something to report."""


def _read(document: Fields) -> _Read:
    checks = [
        (x.text("status"), x.text("check"), x.text("detail"), x.text("fix"))
        for x in document.each("checks")
        if x.text("status") != Status.OK.value
    ]
    return document.text("verdict"), checks


def _print(found: Mapping[str, _Read], *, coloured: bool) -> bool:
    paints = {status.value: paint for status, paint in PAINTS.items()}
    columns = (COLUMN, Column("STATUS", paints=paints), Column("CHECK"),
               Column("DETAIL", Fit.WRAP, 24))  # fmt: skip
    rows, fixes = [], []
    for host, (_, checks) in found.items():
        for status, check, detail, fix in checks:
            rows.append((host, status, check, detail))
            fixes.append(_fix(fix))
    if rows or not sys.stdout.isatty():
        draw(columns, rows, beneath=fixes, coloured=coloured)
    return print_lines(
        {host: [f"scopekeeper is {verdict}"] for host, (verdict, _) in found.items()}
    )


def _fix(fix: str) -> Sequence[str]:
    width = terminal_width()
    if not fix:
        return ()
    return wrap(safe(f"→ {fix}"), width, "    ", "      ") if width else [f"    → {safe(fix)}"]
