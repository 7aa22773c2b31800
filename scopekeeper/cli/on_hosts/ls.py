"""``scopekeeper ls -H``."""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from scopekeeper.cli.cells import Cell, duration, number, size, text
from scopekeeper.cli.ended_runs import ENDED
from scopekeeper.cli.ends import coarse, in_words
from scopekeeper.cli.list_view import Row
from scopekeeper.cli.ls_rows import COLUMNS, counted
from scopekeeper.cli.on_hosts import history as ends
from scopekeeper.cli.on_hosts import lists
from scopekeeper.cli.on_hosts.call import Plan, refuse
from scopekeeper.cli.on_hosts.lists import HostList, HostRow
from scopekeeper.cli.show import processes, safe, terminal_width
from scopekeeper.cli.table import wrap
from scopekeeper.hosts.answer import Fields
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope.reason import Reason

_ENDED_AT = "ended"
"""A key that ended runs have, and scopes have not."""


def plan(given: Mapping[str, Any]) -> Plan[Any]:
    """Return what hosts are asked; raises UsageError."""
    refuse(given, tree="--tree", escaped="--escaped", mine="--mine", compare="--compare")
    listed = HostList(
        COLUMNS,
        _rows,
        _total,
        titles=lambda rows: _titles(rows, given),
        beneath=lambda each: _beneath(each, members=given["members"]),
        remarks=_remarks,
    )
    return lists.plan(given, listed, kept=("members",))


def _rows(document: Fields) -> list[HostRow]:
    scopes = [Row(_cells(each), each) for each in document.each("scopes")]
    ended = document.each("ended") if "ended" in document.values else []
    return [*scopes, *(Row(_ended_cells(each), each) for each in ended)]


def _living(scope: Fields) -> list[Fields]:
    return [each for each in scope.each("members") if each.count("processes")]


def _cells(each: Fields) -> tuple[Cell, ...]:
    cpu = each.number("cpu_usec")
    return (
        text(each.text("user")),
        text(each.text("label") or each.text("session")),
        text(each.text("lane")),
        text(each.text("run")),
        text(each.text("kind")),
        text(each.text("state")),
        Cell("-", None),
        number(len(_living(each))),
        number(each.count("processes")),
        size(each.number("memory_bytes")),
        duration(None if cpu is None else cpu / 1e6),
        duration(each.number("age_s")),
        _ends(each),
        text(each.text("owners")),
        text(each.text("title")),
        text(each.text("label")),
        text(each.text("session_id")),
        text(each.text("lifetime")),
        text(each.text("unit")),
    )


def _ends(each: Fields) -> Cell:
    seconds = math.inf if each.text("ends") == "never" else each.number("ends_in_s")
    return Cell(in_words(seconds, after_reconcile=each.flag("ends_after_reconcile")), seconds)


def _ended_cells(each: Fields) -> tuple[Cell, ...]:
    now, began, ended = time.time(), each.number("started"), each.number(_ENDED_AT) or 0
    goes_on = each.text("reason") == Reason.CONTINUED.value
    cpu = each.number("cpu_usec")
    return (
        text(each.text("user")),
        text(each.text("label") or each.text("session")),
        text(each.text("lane")),
        text(each.text("run")),
        text(each.text("kind")),
        text(Reason.CONTINUED.value if goes_on else ENDED),
        ends.status(each),
        *[Cell("-", None)] * 3,
        duration(None if cpu is None else cpu / 1e6),
        duration(max(now - began, 0)) if began else Cell("?", None),
        Cell("-" if goes_on else f"{coarse(max(now - ended, 0))} ago", None),
        text(each.text("owner")),
        Cell("-", None),
        text(each.text("label")),
        text(each.text("session_id")),
        text(each.text("lifetime")),
        text(each.text("unit")),
    )


def _titles(rows: Sequence[HostRow], given: Mapping[str, Any]) -> Collection[str]:
    wanted = {
        "USER": given["all_users"] or given["all_owners"],
        "STATUS": given["with_ended"] or any(_is_ended(row) for row in rows),
        "TITLE": any(row.of.text("title") for row in rows),
    }
    return {title for title, is_wanted in wanted.items() if is_wanted}


def _is_ended(row: HostRow) -> bool:
    return _ENDED_AT in row.of.values


def _beneath(each: Fields, *, members: bool) -> list[str]:
    """Return the lines under a scope: its problem, and its members if they are asked for."""
    if _ENDED_AT in each.values:
        went_on = each.text("evidence") if each.text("reason") == Reason.CONTINUED.value else ""
        return _lines(f"went on {went_on}") if went_on else []
    lines = []
    if problem := each.text("problem"):
        lines += _lines(f"{problem}; end it there: {each.text('ended_by')}")
    for member in each.each("members"):
        if members:
            lines += _lines(_member(member))
        elif not each.text("problem") and member.text("problem"):
            lines += _lines(f"{member.text('name')}: {member.text('problem')}")
        if claims := member.text("claims"):
            lines += _lines(f"{member.text('name')}: its record says {claims}")
    return lines


def _member(each: Fields) -> str:
    age, idle = each.number("age_s"), each.number("idle_s")
    scratch, mark = each.number("scratch_bytes"), "" if each.flag("scratch_complete") else "≥"
    parts = [
        each.text("name"),
        f"pid {each.count('pid') or '-'}",
        each.text("state"),
        processes(each.count("processes") or 0),
        *([] if scratch is None else [f"{mark}{show_bytes(scratch)} scratch"]),
        *([] if age is None else [f"{show_duration(age)} old"]),
        *([] if idle is None else [f"idle {show_duration(idle)}"]),
        " ".join(each.texts("argv")) if each.length("argv") else "-",
        *([each.text("problem")] if each.text("problem") else []),
    ]
    return "  ".join(parts)


def _lines(line: str) -> list[str]:
    width, line = terminal_width(), safe(line)
    return wrap(line, width, "    ", "      ") if width else [f"    {line}"]


def _remarks(document: Fields) -> list[str]:
    """Return a line for each member that outlives what is named: it has no row."""
    if "outliving" not in document.values:
        return []
    return [
        f"{each.text('member')} ({each.text('session')}, lane {each.text('lane')}) was launched "
        f"from it, and outlives a stop of it: lifetime {each.text('lifetime')}"
        for each in document.each("outliving")
    ]


def _total(rows: Sequence[HostRow]) -> str:
    scopes = [row.of for row in rows if not _is_ended(row)]
    named = [(row.cells[0].text, row.of) for row in rows if not _is_ended(row)]
    sessions = len({(host, x.text("user"), x.text("session")) for host, x in named})
    parts = [
        f"{counted(len(scopes), 'scope')} of {counted(sessions, 'session')}",
        counted(sum(len(_living(x)) for x in scopes), "member"),
        counted(sum(x.count("processes") or 0 for x in scopes), "process", "processes"),
    ]
    memory = [x for x in (each.number("memory_bytes") for each in scopes) if x is not None]
    cpu = [x for x in (each.number("cpu_usec") for each in scopes) if x is not None]
    parts += [f"{show_bytes(sum(memory))} of memory"] if memory else []
    parts += [f"{show_duration(sum(cpu) / 1e6)} of CPU"] if cpu else []
    if len(scopes) < len(rows):
        parts.append(counted(len(rows) - len(scopes), "ended run"))
    return ", ".join(parts if scopes else parts[-1:])
