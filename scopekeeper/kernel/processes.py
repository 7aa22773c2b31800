"""The processes of a cgroup for people: parent, age, CPU, memory, state, command line."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from scopekeeper.kernel import proc
from scopekeeper.kernel.usage import command_line

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATES = {
    "R": "running", "S": "sleeping", "D": "waiting", "T": "stopped", "t": "traced", "I": "idle",
    "Z": "zombie", "X": "zombie",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Process:
    """One process at the moment of a look; its command line is what it chose to show."""

    pid: int
    parent: int
    state: str
    """In one word; waiting is for a device or the kernel, and nothing interrupts it (D)."""
    age: float
    """In seconds."""
    cpu: float
    """In seconds; that of all its threads."""
    resident: int
    """Bytes of memory, shared pages too."""
    command: str
    """Its arguments with blanks between them, else its name in brackets, as in ps(1)."""


def look(pids: Iterable[int], cgroup: str) -> list[Process]:
    """Return those of these processes that are in a cgroup, or below it, the oldest first.

    One that has ended, or whose number another process has by now, is left out.
    """
    now, above = proc.boottime() / 1e6, f"{cgroup.rstrip('/')}/"
    found = []
    for pid in pids:
        try:
            stat = proc.stat_of(pid)
            if stat is None or not f"{proc.cgroup_of(pid)}/".startswith(above):
                continue
        except (OSError, LookupError):
            continue
        argv = command_line(pid) or [""]
        found.append(
            Process(
                pid,
                stat.parent,
                _STATES.get(stat.state, stat.state),
                max(now - stat.start_time / _TICKS, 0.0),
                stat.cpu_ticks / _TICKS,
                stat.resident_pages * _PAGE,
                " ".join(argv) if any(argv) else f"[{stat.name}]",
            )
        )
    return sorted(found, key=lambda each: (-each.age, each.pid))
