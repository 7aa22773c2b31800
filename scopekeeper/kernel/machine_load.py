"""How busy the machine is: its load, CPUs, memory, swap and pressure, from procfs.

Each file can be missing: ``ProcSubset=pid`` hides all of them, and a kernel may lack pressure.
"""

import os
from dataclasses import dataclass, field

from scopekeeper.kernel import proc

_BUSY = (0, 1, 2, 5, 6, 7)
"""The fields of ``cpu`` in /proc/stat that are work: all but idle and iowait. The last two, guests,
are counted in the first two as well."""
_FIELDS = 8


@dataclass(frozen=True, slots=True)
class MachineLoad:
    """The machine at one moment; None and {} are unknown."""

    load: tuple[float, float, float] | None = None
    """Processes that run or wait for a device: the averages of 1, 5 and 15 minutes."""
    cpu_ticks: tuple[int, int] | None = None
    """The work of all CPUs since boot, and all their time, in clock ticks."""
    cpus: int = 1
    memory: tuple[int, int] | None = None
    """Bytes that are available without swapping, and all."""
    swap: tuple[int, int] | None = None
    """Bytes that are free, and all."""
    pressure: dict[str, float] = field(default_factory=dict)
    """Percent of the last ten seconds in which some process waited for ``cpu``, ``memory``,
    ``io``."""
    uptime: float = 0.0
    """Seconds since boot."""

    def cpu_since(self, before: "MachineLoad") -> float | None:
        """Return the work of all CPUs since an earlier moment, in percent of what they can do."""
        if self.cpu_ticks is None or before.cpu_ticks is None:
            return None
        busy, every = (now - then for now, then in zip(self.cpu_ticks, before.cpu_ticks,
                                                       strict=True))  # fmt: skip
        return min(max(100.0 * busy / every, 0.0), 100.0) if every > 0 else None


def read() -> MachineLoad:
    """Return how busy the machine is now."""
    memory = _keyed(_text("/proc/meminfo"))
    pressures = {
        what: _pressure(_text(f"/proc/pressure/{what}")) for what in ("cpu", "memory", "io")
    }
    return MachineLoad(
        load=_load(_text("/proc/loadavg")),
        cpu_ticks=_ticks(_text("/proc/stat")),
        cpus=os.cpu_count() or 1,
        memory=_pair(memory, "MemAvailable", "MemTotal"),
        swap=_pair(memory, "SwapFree", "SwapTotal"),
        pressure={what: value for what, value in pressures.items() if value is not None},
        uptime=proc.boottime() / 1e6,
    )


def _text(path: str) -> str:
    try:
        return proc.read(path)
    except OSError:
        return ""


def _load(text: str) -> tuple[float, float, float] | None:
    try:
        one, five, fifteen = (float(word) for word in text.split()[:3])
    except ValueError:
        return None
    return one, five, fifteen


def _ticks(text: str) -> tuple[int, int] | None:
    words = text.partition("\n")[0].split()[1 : 1 + _FIELDS]
    if len(words) < _FIELDS or not all(map(str.isdecimal, words)):
        return None
    values = [int(word) for word in words]
    return sum(values[at] for at in _BUSY), sum(values)


def _keyed(text: str) -> dict[str, int]:
    """Return the sizes in /proc/meminfo, in bytes."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdecimal():
            found[name] = int(number[0]) << 10
    return found


def _pair(sizes: dict[str, int], part: str, whole: str) -> tuple[int, int] | None:
    return (sizes[part], sizes[whole]) if part in sizes and whole in sizes else None


def _pressure(text: str) -> float | None:
    """Return the ten-second average of the line ``some`` (Documentation/accounting/psi.rst)."""
    for word in text.partition("\n")[0].split():
        name, _, value = word.partition("=")
        if name == "avg10":
            try:
                return float(value)
            except ValueError:
                return None
    return None
