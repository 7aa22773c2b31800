"""What a run depends on: it prints that when it begins, and its row of the tables has it."""

import os
import platform
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
PAGE = HERE / "docs/reliability.md"


def note(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def told(seed: int, commit: str) -> dict[str, str]:
    """Return it after printing it; commit is what the checkout is at, which a machine has not."""
    version = subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout
    found = {
        "seed": str(seed),
        "commit": commit or "unknown",
        "kernel": platform.release(),
        "systemd": version.split()[1],
        "Python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "user",
    }
    note(", ".join(f"{key} {value}" for key, value in found.items()))
    return found


def commit() -> str:
    """Return what the checkout is at."""
    argv = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip() or "unknown"
