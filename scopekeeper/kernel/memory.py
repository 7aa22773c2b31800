"""The memory of the machine: how much there is, what is available, and who waits for it.

On the hot path of a launch that is gated: builtin modules only. None means that it cannot be read:
a kernel without PSI, a service with ``ProcSubset=pid``, a container that hides the file.
"""

from scopekeeper.kernel.proc import read

MEMORY, PRESSURE = "/proc/meminfo", "/proc/pressure/memory"


def total_bytes() -> int | None:
    """Return MemTotal of proc_meminfo(5)."""
    return _field("MemTotal:")


def available_bytes() -> int | None:
    """Return MemAvailable: what programs can use before the machine swaps, as Linux estimates."""
    return _field("MemAvailable:")


def waiting_percent() -> float | None:
    """Return in how much of the last ten seconds some process waited for memory.

    See ``some avg10`` in the kernel's Documentation/accounting/psi.rst.
    """
    text = _text(PRESSURE).partition("some avg10=")[2].partition(" ")[0]
    is_number = text.isascii() and text.replace(".", "", 1).isdecimal()
    return float(text) if is_number else None


def _field(name: str) -> int | None:
    text = f"\n{_text(MEMORY)}".partition(f"\n{name}")[2].partition("kB")[0].strip()
    return int(text) << 10 if text.isascii() and text.isdecimal() else None


def _text(path: str) -> str:
    try:
        return read(path)
    except OSError:
        return ""
