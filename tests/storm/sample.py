"""What is sampled: the keeper's process, the folders, the cgroups and the units."""

import os
from collections.abc import Sequence
from pathlib import Path

from tests import folders
from tests.machine import ROOT, text_of
from tests.systemd.manager import SLICE, scope_units

RUNTIME = Path("/run/scopekeeper" if ROOT else f"/run/user/{os.getuid()}/scopekeeper")
_TICKS = os.sysconf("SC_CLK_TCK")
_BLOCK = 512


def of_process(pid: int) -> dict[str, float]:
    """Return what a process has and has used."""
    rollup = dict(line.split(":", 1) for line in text_of(f"/proc/{pid}/smaps_rollup").splitlines()
                  if ":" in line and line.endswith("kB"))  # fmt: skip
    stat = text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return {
        "PSS, KiB": float(rollup["Pss"].split()[0]),
        "heap, KiB": float(rollup["Anonymous"].split()[0]),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": float(stat[17]),
        "CPU": (float(stat[11]) + float(stat[12])) / _TICKS * 1000,
    }


def of_folder(path: Path, leave_out: Sequence[str] = ()) -> tuple[float, float]:
    """Return how many files are in a folder and below, and the KiB that they take.

    leave_out are the beginnings of names.
    """
    files = taken = 0
    for folder, inner, names in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith(tuple(leave_out))]
        for name in names:
            if name.startswith(tuple(leave_out)):
                continue
            try:
                seen = os.lstat(f"{folder}/{name}")
            except OSError:
                continue  # it was removed
            files += 1
            taken += seen.st_blocks * _BLOCK
    return files, taken / 1024


def of_folders(state: Path, runtime: Path = RUNTIME) -> dict[str, float]:
    """Return the sizes of the state folder, with the runs' own, and of the runtime folder."""
    found = {}
    history = list(state.glob("history.db*"))
    found["history, KiB"] = sum(os.stat(path).st_blocks * _BLOCK for path in history) / 1024
    others = ("runs", "history.db")
    parts = (("runs", state / "runs", ()), ("other state", state, others), ("/run", runtime, ()))
    for name, path, leave_out in parts:
        found[f"{name}, files"], found[f"{name}, KiB"] = of_folder(path, leave_out)
    return found


def of_manager() -> dict[str, float]:
    """Return how many cgroups are in the slice of our scopes, and how many units systemd has."""
    return {
        "cgroups": sum(1 for _ in folders.below(SLICE)) if os.path.isdir(SLICE) else 0,
        "units": len(scope_units()),
    }
