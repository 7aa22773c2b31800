"""What a run depends on: it prints that when it begins, and its row of the tables has it."""

import argparse
import os
import platform
import random
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
PAGE = HERE / "docs/reliability.md"


def options_of_lab(command: argparse.ArgumentParser) -> None:
    """Add the options of a run for which a machine of the lab is booted."""
    command.add_argument("--suite", default="trixie")
    command.add_argument("--root", action="store_true", help="as root, not as the user")
    command.add_argument("--keep", action="store_true", help="do not write into the docs")


def options_of_run(command: argparse.ArgumentParser) -> None:
    """Add the options that a run has in a machine as well."""
    seed = random.SystemRandom().randrange(10**6)
    command.add_argument("--seed", type=int, default=seed, help="replays a run")
    command.add_argument("--commit", default="", help="what the checkout is at")


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
