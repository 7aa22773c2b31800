"""Measures what a live view costs while it runs: its CPU, and its memory."""

import contextlib
import fcntl
import os
import pty
import shutil
import signal
import struct
import termios
import threading
import time
from collections.abc import Iterator

from benchmarks.fleet import FIVE
from benchmarks.launch import SCOPEKEEPER, fresh, ours, started
from benchmarks.measure import Row, spawn
from scopekeeper.kernel import open_files

CGTOP = shutil.which("systemd-cgtop") or "systemd-cgtop"
_SETTLED = 6.0
"""Seconds after which it has read everything, and looks only at what changes."""
_SHARE, _MEMORY = 3.0, 50.0
"""Its budgets: percent of one CPU, and MiB."""
_SIZE = (50, 200)
"""Lines and columns: the more rows it shows, the more it reads."""
_TICKS = os.sysconf("SC_CLK_TCK")


def watching(scopes: int, seconds: float, *, judged: bool) -> list[Row]:
    """Measure ``top`` of so many scopes for a while, beside systemd-cgtop as often.

    judged is whether it has to keep within its budgets.
    """
    open_files.allow(scopes + 64)  # each member is waited for at a pipe
    life = fresh("top")
    members = [ours(fresh("top"), "--session-id", life, command=FIVE) for _ in range(scopes)]
    with started(members, together=False, workers=8):
        share, memory = _cost([SCOPEKEEPER, "top"], seconds)
        theirs, _ = _cost([CGTOP, "--delay=2s"], seconds)
        spawn([SCOPEKEEPER, "stop", "--session-id", life, "--grace", "0s"])
    words = f"top, {scopes} scopes, {scopes * 5} processes"
    rows = [Row(f"{words}: of a CPU", share, "systemd-cgtop, every 2 s", theirs, None, "%")]
    if judged:
        rows += [
            Row(f"{words}: of a CPU", share, "what it may take", _SHARE, 1.0, "%"),
            Row(f"{words}: memory", memory, "what it may take", _MEMORY, 1.0, "MiB"),
        ]
    return rows


def _cost(argv: list[str], seconds: float) -> tuple[float, float]:
    """Return the percent of one CPU that a program at a terminal takes, and its RSS in MiB."""
    with _at_a_terminal(argv) as pid:
        time.sleep(_SETTLED)
        before, began = _cpu(pid), time.monotonic()
        time.sleep(seconds)
        share = 100 * (_cpu(pid) - before) / (time.monotonic() - began)
        return share, _resident(pid)


@contextlib.contextmanager
def _at_a_terminal(argv: list[str]) -> Iterator[int]:
    """Run a program at a terminal whose output is read all the time."""
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", *_SIZE, 0, 0))
        os.execvpe(argv[0], argv, {**os.environ, "TERM": "xterm-256color"})
    reader = threading.Thread(target=_read, args=(fd,), daemon=True)
    reader.start()
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        reader.join()
        os.close(fd)


def _read(fd: int) -> None:
    with contextlib.suppress(OSError):  # EIO: the program has ended
        while os.read(fd, 1 << 16):
            pass


def _cpu(pid: int) -> float:
    """Return the CPU time of a process so far, in seconds."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(file.read().partition("VmRSS:")[2].split()[0]) / 1024
