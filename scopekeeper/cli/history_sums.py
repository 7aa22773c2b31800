"""``scopekeeper history --by``: what the ends of each session, lane, name or reason have used."""

from collections.abc import Mapping, Sequence
from typing import Any

from scopekeeper.cli.cells import Cell, Unit, duration, number, size, text
from scopekeeper.cli.list_view import Row
from scopekeeper.cli.table import Column, Fit
from scopekeeper.cli.users import user_fields
from scopekeeper.quantities import show_bytes, show_duration

KEYS = {"session": "session", "lane": "lane", "name": "member", "reason": "reason"}
"""What ends are grouped by, and the key of their JSON objects."""
Group = dict[str, Any]
"""The JSON object of a group."""


def columns(by: str) -> tuple[Column, ...]:
    """Return the columns of a table of groups."""
    return (
        Column("USER", extra=True),
        Column(by.upper(), Fit.MIDDLE, 22),
        Column("ENDS", right=True, unit=Unit.NUMBER),
        Column("TIME", need=1, right=True, unit=Unit.DURATION),
        Column("PEAK", need=2, right=True, unit=Unit.SIZE),
        Column("CPU", need=3, right=True, unit=Unit.DURATION),
    )


def sums(ends: Sequence[Mapping[str, Any]], by: str) -> list[Group]:
    """Return one object for each user and key, of the JSON objects of ends; most ends first."""
    grouped: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for end in ends:
        key = end[KEYS[by]]
        if by == "session":
            key = end["label"] or key
        grouped.setdefault((end["uid"], key), []).append(end)
    found = [_sum(uid, by, key, members) for (uid, key), members in grouped.items()]
    return sorted(found, key=lambda each: -int(each["ends"]))


def _sum(uid: int, by: str, key: str, ends: Sequence[Mapping[str, Any]]) -> Group:
    times = [max(x["ended"] - x["started"], 0.0) for x in ends if x["started"] is not None]
    cpu = [x["cpu_usec"] for x in ends if x["cpu_usec"] is not None]
    peaks = [x["memory_peak"] for x in ends if x["memory_peak"] is not None]
    return {
        **user_fields(uid),
        by: key,
        "ends": len(ends),
        "time_s": round(sum(times), 3) if times else None,
        "times_are_at_most": any(not x["seen"] for x in ends),
        "memory_peak": max(peaks, default=None),
        "cpu_usec": sum(cpu) if cpu else None,
        "cpu_unknown": len(ends) - len(cpu),
    }


def rows(groups: Sequence[Group], by: str) -> list[Row[Group]]:
    """Return the rows of groups.

    ``≥`` marks a sum that lacks ends whose value is unknown, ``≤`` a time that was over earlier.
    """
    found = []
    for each in groups:
        cpu = None if each["cpu_usec"] is None else each["cpu_usec"] / 1e6
        cells = (
            text(str(each["user"])),
            text(each[by]),
            number(each["ends"]),
            _marked("≤" if each["times_are_at_most"] else "", duration(each["time_s"])),
            size(each["memory_peak"]),
            _marked("≥" if each["cpu_unknown"] else "", duration(cpu)),
        )
        found.append(Row(cells, each))
    return found


def _marked(mark: str, cell: Cell) -> Cell:
    return Cell(mark + cell.text, cell.value) if cell.value is not None else cell


def total(ends: Sequence[Mapping[str, Any]]) -> str:
    """Return the last line of a list of ends."""
    parts = [f"{len(ends)} end{'' if len(ends) == 1 else 's'}"]
    cpu = [x["cpu_usec"] for x in ends if x["cpu_usec"] is not None]
    peaks = [x["memory_peak"] for x in ends if x["memory_peak"] is not None]
    if cpu:
        parts.append(f"{show_duration(sum(cpu) / 1e6)} of CPU")
    if peaks:
        parts.append(f"{show_bytes(max(peaks))} of memory at the highest peak")
    return ", ".join(parts)
