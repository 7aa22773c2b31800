"""Measures the hook of a client: how long the client waits for it."""

import ctypes
import os
import statistics

from benchmarks.launch import SCOPEKEEPER, interpreter
from benchmarks.measure import Row, spawn

_PR_SET_CHILD_SUBREAPER = 36
_HOOK = (SCOPEKEEPER, "hook", "claude", "SessionStart")


def returning(rounds: int) -> list[Row]:
    """Compare a hook, until it has returned, with the bare interpreter.

    They take turns. The process that a hook leaves behind ends before the next turn, since it is
    not what the client waits for.
    """
    libc = ctypes.CDLL(None)
    floor = [interpreter(), "-I", "-S", "-c", "pass"]
    ours, theirs = [], []
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        for _ in range(rounds):
            theirs.append(spawn(floor))
            ours.append(spawn(_HOOK))
            os.waitpid(-1, 0)
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    return [
        Row("hook, until it has returned", statistics.median(ours), "python3 -I -S -c pass",
            statistics.median(theirs), 1.2)
    ]  # fmt: skip
