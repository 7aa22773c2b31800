"""Measures the start of a member from Python."""

import statistics
import subprocess
import time
from collections.abc import Callable  # noqa: TC003
from typing import Any

import scopekeeper
from benchmarks.launch import fresh, living_scope, ours, systemd_run
from benchmarks.measure import Row, spawn

_TRUE = ("/bin/true",)
_QUIET: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)


def spawning(rounds: int, block: int) -> list[Row]:
    """Compare one ``spawn`` into an existing scope, until the command's end.

    In turns and in blocks, for the reasons in ``measure.medians``.
    """
    session = fresh("spawn")
    cohort = scopekeeper.Cohort(session)
    timers: dict[str, Callable[[], float]] = {
        "spawn": lambda: _until_its_end(lambda: cohort.spawn(_TRUE, **_QUIET)),
        "popen": lambda: _until_its_end(lambda: subprocess.Popen(_TRUE, **_QUIET)),
        "run": lambda: spawn(ours(session)),
        "rival": lambda: spawn(systemd_run()),
    }
    times: dict[str, list[float]] = {name: [] for name in timers}
    with living_scope(session):
        for _ in range(rounds):
            for name, timer in timers.items():
                timer()
                times[name] += [timer() for _ in range(block)]
    found = {name: statistics.median(values) for name, values in times.items()}
    what = "spawn in Python, joining a scope"
    return [
        Row(what, found["spawn"], "systemd-run --scope", found["rival"], 0.35),
        Row(what, found["spawn"], "run, joining a scope", found["run"], None),
        Row(what, found["spawn"], "subprocess.Popen", found["popen"], None),
    ]


def _until_its_end(start: "Callable[[], subprocess.Popen[bytes]]") -> float:
    began = time.perf_counter_ns()
    status = start().wait()
    took = (time.perf_counter_ns() - began) / 1e6
    if status != 0:
        raise RuntimeError(f"{_TRUE[0]} exited {status}")
    return took
