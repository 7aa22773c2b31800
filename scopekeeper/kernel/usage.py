"""Details of processes, for people to look at; never a reason to end one."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemberUsage:
    """What the processes of a member use together, as the kernel counts each of them."""

    rss_bytes: int
    """Resident memory; pages that several processes share count for each."""
    cpu_seconds: float


def usage(pids: Iterable[int]) -> MemberUsage:
    """Add up what these processes use; one that ended meanwhile counts nothing."""
    import psutil

    rss, cpu = 0, 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                rss += process.memory_info().rss
                times = process.cpu_times()
                cpu += times.user + times.system
        except psutil.Error:
            continue
    return MemberUsage(rss, cpu)


def command_line(pid: int | None) -> list[str] | None:
    """Return a process's arguments, None where it has ended or may not be looked at."""
    if pid is None:
        return None
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            raw = file.read()
    except OSError:
        return None
    return [
        part.decode("utf-8", "backslashreplace") for part in raw.removesuffix(b"\0").split(b"\0")
    ]
