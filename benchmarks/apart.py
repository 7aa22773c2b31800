"""Measures launches far apart, as people and agents start them, and launches back to back.

The kernel makes the first move between cgroups after a pause wait for a grace period of RCU, unless
cgroup2 is mounted with ``favordynmods``. A loop of launches does not show that.
"""

import contextlib
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.launch import READY, fresh, interpreter, ours, systemd_run
from benchmarks.measure import Grid, quantile, spawn
from scopekeeper.kernel import cgroupfs, mounts
from scopekeeper.kernel.proc import mount_point

_MOVE = """\
import posix, sys, time
file = posix.open(sys.argv[1] + "/cgroup.procs", posix.O_WRONLY)
began = time.perf_counter_ns()
posix.write(file, b"0")
print((time.perf_counter_ns() - began) / 1e6)
"""
"""Moves itself, and prints the milliseconds that the write took."""


def apart(rounds: int, seconds: float, block: int) -> Grid:
    """Compare launches so many seconds apart with launches back to back."""
    session = fresh("apart")
    with _member(session) as leaf:
        ways: dict[str, Callable[[], float]] = {
            "`python3 -I -S -c pass`": lambda: spawn([interpreter(), "-I", "-S", "-c", "pass"]),
            "one move between cgroups": lambda: _move(leaf),
            "`run`, joining a scope": lambda: spawn(ours(session, "-n", "true")),
            "`run`, making a scope": lambda: spawn(ours(fresh("new"))),
            "`systemd-run --scope`": lambda: spawn(systemd_run()),
        }
        far: dict[str, list[float]] = {way: [] for way in ways}
        near: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, timer in ways.items():
                time.sleep(seconds)
                far[way].append(timer())
        for way, timer in ways.items():
            timer()
            near[way] = [timer() for _ in range(block)]
    headers = ["launch", f"every {seconds:g} s: p50 / p95 / max", "back to back: p50", "more"]
    rows = [_row(way, far[way], statistics.median(near[way])) for way in ways]
    has = "with" if "favordynmods" in mounts.options_of(mount_point()).split(",") else "without"
    return Grid(headers, rows, f"{rounds} of each, in ms, {has} favordynmods")


def _row(way: str, times: Sequence[float], near: float) -> list[str]:
    spread = " / ".join(f"{quantile(times, part):.1f}" for part in (0.5, 0.95, 1.0))
    return [way, spread, f"{near:.1f}", f"{quantile(times, 0.5) - near:.1f}"]


def _move(leaf: str) -> float:
    argv = [interpreter(), "-I", "-S", "-c", _MOVE, leaf]
    return float(subprocess.check_output(argv, text=True))


@contextlib.contextmanager
def _member(session: str) -> Iterator[str]:
    """Keep a scope alive with one member; yield the directory of that."""
    with subprocess.Popen(ours(session, command=READY), stdout=subprocess.PIPE) as member:
        try:
            assert member.stdout is not None
            member.stdout.readline()
            yield mount_point() + cgroupfs.path_of(member.pid)
        finally:
            member.kill()
