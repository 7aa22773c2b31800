"""Whether a scope or a member does something: two counters, and a mark of when they stood still."""

import contextlib
from collections.abc import Sequence

from scopekeeper.kernel import cgroupfs, proc

_IDLE_CPU = 0.001
"""Share of a CPU below which something counts as idle: timers of a runtime take less."""

Activity = tuple[int, int]
"""Microseconds of CPU time, and bytes that its living processes have written."""
Mark = tuple[int, int, int]
"""When an activity was read, in microseconds of CLOCK_BOOTTIME, and its value then."""


def read(directory: str, pids: Sequence[int]) -> Activity | None:
    """Return the activity of a cgroup with these processes; None if it cannot be read."""
    cpu = cgroupfs.keyed(cgroupfs.read(directory, "cpu.stat"), "usage_usec")
    if cpu is None:
        return None
    written = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = proc.read(f"/proc/{pid}/io").replace(":", "")
            written += cgroupfs.keyed(text, "wchar") or 0
    return cpu, written


def idle_since(activity: Activity | None, mark: Mark | None, now: int) -> int | None:
    """Return the moment of the mark if nothing has been done since; None if something has."""
    if activity is None or mark is None:
        return None
    since, cpu_then, written_then = mark
    cpu, written = activity
    is_idle = written == written_then and cpu - cpu_then <= _IDLE_CPU * (now - since)
    return since if is_idle else None
