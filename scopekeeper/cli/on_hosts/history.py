"""``scopekeeper history -H``."""

from collections.abc import Mapping, Sequence
from typing import Any

from scopekeeper.cli import history, history_sums
from scopekeeper.cli.cells import Cell, duration, number, size, text
from scopekeeper.cli.list_view import Row
from scopekeeper.cli.moments import briefly, when
from scopekeeper.cli.on_hosts import lists
from scopekeeper.cli.on_hosts.call import Plan
from scopekeeper.cli.on_hosts.lists import HostList, HostRow
from scopekeeper.cli.show import terminal_width
from scopekeeper.hosts.answer import BadAnswerError, Fields
from scopekeeper.kernel.exit_status import signal_name
from scopekeeper.quantities import show_bytes, show_duration

_MOST = 1_000_000_000
"""More ends than there are: a sort needs all of them."""


def plan(given: Mapping[str, Any]) -> Plan[Any]:
    """Return what hosts are asked; raises UsageError."""
    by, limit = given["by"], given["limit"]
    users = {"USER"} if given["all_users"] else set()
    if by is not None:
        sums = HostList(history_sums.columns(by), lambda x: _sums(x, by), _total,
                        titles=lambda _: users, arrange=lambda rows: rows[:limit])  # fmt: skip
        return _with_conditions(given, sums)
    limit = limit or history.DEFAULT_LIMIT
    is_brief = terminal_width() is not None and not given["no_trunc"]
    ends = HostList(
        history.COLUMNS,
        lambda document: _ends(document, brief=is_brief),
        _total,
        titles=lambda _: users,
        arrange=(lambda rows: rows[:limit]) if given["sort"] else lambda rows: _newest(rows, limit),
    )
    more = [f"--limit={_MOST if given['sort'] else limit}"]
    return lists.plan(given, ends, kept=("limit",), more=more)


def _with_conditions(given: Mapping[str, Any], sums: HostList) -> Plan[Any]:
    """Return the plan of sums: their conditions are about ends, which only the hosts have."""
    more = [f"--where={condition}" for condition in given["where"]]
    return lists.plan({**given, "where": ()}, sums, kept=("limit",), more=more)


def _newest(rows: Sequence[HostRow], limit: int) -> list[HostRow]:
    return sorted(rows, key=lambda row: row.of.number("ended") or 0)[-limit:]


def _ends(document: Fields, *, brief: bool) -> list[HostRow]:
    return [Row(_cells(each, brief=brief), each) for each in document.each("ends")]


def _cells(each: Fields, *, brief: bool) -> tuple[Cell, ...]:
    ended, started, cpu = each.number("ended"), each.number("started"), each.number("cpu_usec")
    if ended is None:
        raise BadAnswerError("an end in its answer has no time")
    micros, seen = int(ended * 1e6), each.flag("seen")
    lasted = None if started is None else ended - started
    mark = "" if seen else "≤"
    return (
        text(each.text("user")),
        Cell(briefly(micros, seen=seen) if brief else when(micros), ended),
        text(each.text("label") or each.text("session")),
        text(each.text("lane")),
        text(each.text("run")),
        text(each.text("member")),
        text(each.text("reason")),
        status(each),
        Cell("?" if lasted is None else mark + show_duration(lasted), lasted),
        size(each.number("memory_peak")),
        duration(None if cpu is None else cpu / 1e6),
        text(each.text("evidence")),
        text(each.text("label")),
        text(each.text("session_id")),
        text(each.text("kind")),
        text(each.text("lifetime")),
        text(each.text("owner")),
        text(each.text("unit")),
        number(each.count("processes")),
        number(each.count("killed")),
        size(each.number("scratch_bytes")),
        text(" ".join(each.texts("argv")) if each.length("argv") else ""),
    )


def status(each: Fields) -> Cell:
    """Return the exit status of an end, or the name of its signal."""
    signal, exited = each.count("signal"), each.count("exit_status")
    if signal is not None:
        return text(signal_name(signal))
    return text("-" if exited is None else str(exited))


def _total(rows: Sequence[HostRow]) -> str:
    """Return the last line: of ends, or of sums, which have how many they are."""
    ends = sum(1 if "member" in row.of.values else row.of.count("ends") or 0 for row in rows)
    cpu = [x for x in (row.of.number("cpu_usec") for row in rows) if x is not None]
    peaks = [x for x in (row.of.number("memory_peak") for row in rows) if x is not None]
    parts = [f"{ends} end{'' if ends == 1 else 's'}"]
    parts += [f"{show_duration(sum(cpu) / 1e6)} of CPU"] if cpu else []
    parts += [f"{show_bytes(max(peaks))} of memory at the highest peak"] if peaks else []
    return ", ".join(parts)


def _sums(document: Fields, by: str) -> list[HostRow]:
    return [Row(_cells_of_sum(each, by), each) for each in document.each("groups")]


def _cells_of_sum(each: Fields, by: str) -> tuple[Cell, ...]:
    cpu = each.number("cpu_usec")
    lasted = duration(each.number("time_s"))
    used = duration(None if cpu is None else cpu / 1e6)
    return (
        text(each.text("user")),
        text(each.text(by)),
        number(each.count("ends")),
        Cell(f"≤{lasted.text}", lasted.value) if each.flag("times_are_at_most") else lasted,
        size(each.number("memory_peak")),
        Cell(f"≥{used.text}", used.value) if cpu and each.count("cpu_unknown") else used,
    )
