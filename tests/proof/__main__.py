"""``python -m tests.proof crash``: in a machine of the lab. ``... lab crash``: boots one for it."""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import results
from .about import PAGE, commit, note, options_of_lab, options_of_run, told
from .pairs import PAIRS
from .steps import STEPS

SECONDS_EACH = 10


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    top = argparse.ArgumentParser(prog="python -m tests.proof")
    commands = top.add_subparsers(dest="command", required=True)
    inside = commands.add_parser("crash", help="in a machine of the lab: kill and fail commands")
    lab = commands.add_parser("lab", help="boot a machine, and write its results into the docs")
    lab.add_argument("what", choices=["crash"])
    options_of_lab(lab)
    lab.add_argument("--jobs", type=int, default=1, help="machines that share the trials")
    inside.add_argument("--part", default="1/1", help="K/N: every Nth trial, from the Kth on")
    for command in (inside, lab):
        command.add_argument("--count", type=int, default=300)
        command.add_argument(
            "--minutes",
            type=float,
            default=0,
            help="do no more trials after so many, of --count at most",
        )
        options_of_run(command)
        command.add_argument("--step", action="append", default=[],
                             choices=[each.name for each in (*STEPS, *PAIRS)])  # fmt: skip
        command.add_argument("--only", type=int, action="append", default=[],
                             help="replay this trial of the seed")  # fmt: skip
    return top


def main(argv: Sequence[str]) -> int:
    """Do one command."""
    options = parser().parse_args(argv)
    return in_lab(options) if options.command == "lab" else crash(options)


def crash(options: argparse.Namespace) -> int:
    """Do the trials here; everything that is contained on this machine ends."""
    if "LAB_OUT" not in os.environ:
        print("this ends every scope of the machine: only in the lab", file=sys.stderr)
        return 2
    from .crash import run  # observes the machine's cgroups

    about = told(options.seed, options.commit)
    out = Path(os.environ["LAB_OUT"])
    part, parts = map(int, options.part.split("/"))
    numbers = options.only or range(part, options.count + 1, parts)
    trials, canaries = run(
        numbers, options.seed, options.step, out, note,
        seconds=options.minutes * 60 or math.inf, whatever=bool(options.only),
    )  # fmt: skip
    summary = results.summarise(trials, canaries, about)
    (out / "crash.json").write_text(json.dumps(summary, indent=1) + "\n")
    note(results.lines(summary))
    return 1 if summary["wrong"] else 0


def in_lab(options: argparse.Namespace) -> int:
    """Boot a machine, have it do the trials, and write the table."""
    argv = [*("python", "-m", "tests.proof", "crash", "--commit", commit()),
            *("--count", str(options.count), "--seed", str(options.seed)),
            *("--minutes", str(options.minutes)),
            *(word for name in options.step for word in ("--step", name)),
            *(word for number in options.only for word in ("--only", str(number)))]  # fmt: skip
    from .machine import boot

    parts = [[*argv, "--part", f"{part}/{options.jobs}"] for part in range(1, options.jobs + 1)]
    status, files = boot(
        options.suite, as_root=options.root, argvs=parts,
        seconds=SECONDS_EACH * options.count, result="crash.json",
    )  # fmt: skip
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        print(f"no result in {', '.join(missing)}", file=sys.stderr)
        return status or 1
    summary = results.merge([json.loads(file.read_text()) for file in files])
    if options.jobs > 1:
        note(results.lines(summary))
    if not (options.keep or options.only or options.step):
        results.write(PAGE, summary)
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
