"""Describe processes for people; never a reason to end one."""

from collections.abc import Iterable

from scopekeeper.data import dataclass
from scopekeeper.kernel import proc


@dataclass(frozen=True, slots=True)
class MemberUsage:
    """The resources that the processes of a member use together."""

    rss_bytes: int
    """Resident memory; a page that several processes share counts for each."""
    cpu_seconds: float


def usage(pids: Iterable[int]) -> MemberUsage:
    """Return the sum over these processes; one that has ended counts nothing."""
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
    """Return a process's arguments, None if it has ended or cannot be read.

    Not by psutil, which splits a lone argument at its spaces.
    """
    if pid is None:
        return None
    try:
        text = proc.read(f"/proc/{pid}/cmdline").removesuffix("\0")
    except OSError:
        return None
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").split("\0")


def name(pid: int) -> str:
    """Return the name of a process's program, uncut; '' if it has ended."""
    import psutil

    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


def describe(pid: int) -> str:
    """Return the command line of a process on one line, else its name; '' if it has ended."""
    return " ".join(command_line(pid) or ()) or proc.comm(pid)
