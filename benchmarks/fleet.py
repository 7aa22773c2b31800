"""Measures listing and stopping many scopes."""

import os
import shutil
import time

from benchmarks.launch import MODE, SCOPEKEEPER, fresh, ours, started
from benchmarks.measure import Row, medians, spawn
from scopekeeper.scope.placement import Caller

FIVE = ("/bin/sh", "-c", "for i in 1 2 3 4; do sleep 1000 & done; echo; wait")
"""A member of five processes."""
SYSTEMCTL = shutil.which("systemctl") or "systemctl"


def listing(scopes: int, rounds: int) -> list[Row]:
    """Compare ``ls`` with ``systemctl status`` of the same scopes."""
    members = [ours(fresh("ls"), command=FIVE) for _ in range(scopes)]
    with started(members, together=False, workers=8):
        found = medians(
            {
                "ls": lambda: [SCOPEKEEPER, "ls"],
                "json": lambda: [SCOPEKEEPER, "ls", "--json"],
                "status": lambda: [SYSTEMCTL, *MODE, "--no-pager", "status", "scopekeeper-*.scope"],
            },
            rounds=rounds,
            block=2,
        )
        spawn([SCOPEKEEPER, "stop", "--owner", _owner()])
    words = f"{scopes} scopes, {scopes * 5} processes"
    return [
        Row(f"ls, {words}", found["ls"], "systemctl status of the same", found["status"], 0.5),
        Row(f"ls --json, {words}", found["json"], "systemctl status of the same",
            found["status"], None),
    ]  # fmt: skip


def stopping(scopes: int, rounds: int) -> list[Row]:
    """Compare ``stop`` with ``systemctl stop`` of as many scopes."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for name, taken in times.items():
            session_id = fresh("stop")
            options = ("--session-id", session_id)
            members = [ours(fresh("stop"), *options, command=FIVE) for _ in range(scopes)]
            with started(members, together=False, workers=8):
                if name == "ours":
                    argv = [SCOPEKEEPER, "stop", "--session-id", session_id]
                else:
                    argv = [SYSTEMCTL, *MODE, "stop", "scopekeeper-*.scope"]
                began = time.perf_counter()
                spawn(argv)
                taken.append((time.perf_counter() - began) * 1000)
    middle = rounds // 2
    return [
        Row(f"stop, {scopes} scopes, {scopes * 5} processes", sorted(times["ours"])[middle],
            "systemctl stop of the same", sorted(times["theirs"])[middle], 0.5)
    ]  # fmt: skip


def _owner() -> str:
    """Return the owner of what this process starts: its service, else itself."""
    unit = Caller().unit_path().rpartition("/")[2]
    return unit or str(os.getpid())
