"""``python -m tests.proof crash``: in a machine of the lab. ``... lab crash``: boots one for it."""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import results
from .steps import STEPS

HERE = Path(__file__).resolve().parents[2]
SECONDS_EACH = 10


def note(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    top = argparse.ArgumentParser(prog="python -m tests.proof")
    commands = top.add_subparsers(dest="command", required=True)
    inside = commands.add_parser("crash", help="in a machine of the lab: kill and fail commands")
    lab = commands.add_parser("lab", help="boot a machine, and write its results into the docs")
    lab.add_argument("what", choices=["crash"])
    lab.add_argument("--suite", default="trixie")
    lab.add_argument("--root", action="store_true", help="as root, not as the user")
    lab.add_argument("--keep", action="store_true", help="do not write into docs/reliability.md")
    for command in (inside, lab):
        command.add_argument("--count", type=int, default=300)
        command.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
        command.add_argument("--step", action="append", default=[],
                             choices=[each.name for each in STEPS])  # fmt: skip
        command.add_argument("--only", type=int, action="append", default=[],
                             help="replay this trial of the seed")  # fmt: skip
        command.add_argument("--commit", default="")
    return top


def main(argv: Sequence[str]) -> int:
    """Do one command."""
    options = parser().parse_args(argv)
    return in_lab(options) if options.command == "lab" else crash(options)


def about(options: argparse.Namespace) -> dict[str, str]:
    """Return what a run depends on."""
    version = subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout
    return {
        "seed": str(options.seed),
        "commit": options.commit or "unknown",
        "kernel": platform.release(),
        "systemd": version.split()[1],
        "Python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "user",
    }


def commit() -> str:
    """Return what the checkout is at."""
    argv = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip() or "unknown"


def crash(options: argparse.Namespace) -> int:
    """Do the trials here; everything that is contained on this machine ends."""
    if "LAB_OUT" not in os.environ:
        print("this ends every scope of the machine: only in the lab", file=sys.stderr)
        return 2
    from .crash import run  # observes the machine's cgroups

    described = about(options)
    note(", ".join(f"{key} {value}" for key, value in described.items()))
    out = Path(os.environ["LAB_OUT"])
    trials, canaries = run(options.count, options.seed, options.step, options.only, out, note)
    summary = results.summarise(trials, canaries, described)
    (out / "crash.json").write_text(json.dumps(summary, indent=1) + "\n")
    note(results.lines(summary))
    return 1 if summary["wrong"] else 0


def in_lab(options: argparse.Namespace) -> int:
    """Boot a machine, have it do the trials, and write the table."""
    argv = [*("python", "-m", "tests.proof", "crash", "--commit", commit()),
            *("--count", str(options.count), "--seed", str(options.seed)),
            *(word for name in options.step for word in ("--step", name)),
            *(word for number in options.only for word in ("--only", str(number)))]  # fmt: skip
    from .machine import boot

    status, file = boot(
        options.suite, as_root=options.root, argv=argv,
        seconds=SECONDS_EACH * options.count, result="crash.json",
    )  # fmt: skip
    if not file.exists():
        print(f"no result in {file}", file=sys.stderr)
        return status or 1
    if not (options.keep or options.only or options.step):
        results.write(HERE / "docs/reliability.md", json.loads(file.read_text()))
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
