"""``python -m tests.model play``: in a machine of the lab. ``... lab``: boots one for it."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.proof.about import PAGE, commit, note, options_of_lab, options_of_run, told
from tests.proof.results import append

from . import results

SECONDS_EACH = 3


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    top = argparse.ArgumentParser(prog="python -m tests.model")
    commands = top.add_subparsers(dest="command", required=True)
    inside = commands.add_parser("play", help="in a machine of the lab: drive and compare")
    lab = commands.add_parser("lab", help="boot a machine, and write its results into the docs")
    options_of_lab(lab)
    for command in (inside, lab):
        command.add_argument("--steps", type=int, default=300)
        options_of_run(command)
        command.add_argument("--blob", default="", help="play a difference again")
        command.add_argument("--no-shrink", action="store_true",
                             help="go on at once after a difference")  # fmt: skip
    return top


def main(argv: Sequence[str]) -> int:
    """Do one command."""
    options = parser().parse_args(argv)
    return in_lab(options) if options.command == "lab" else play(options)


def play(options: argparse.Namespace) -> int:
    """Do the steps here; everything that is contained on this machine ends."""
    if "LAB_OUT" not in os.environ:
        print("this ends every scope of the machine: only in the lab", file=sys.stderr)
        return 2
    from .running import run  # observes the machine's cgroups

    about = told(options.seed, options.commit)
    out = Path(os.environ["LAB_OUT"])
    summary = run(options.steps, options.seed, out, note, shrinks=not options.no_shrink)
    summary |= {"about": about, "wants": options.steps}
    (out / "model.json").write_text(json.dumps(summary, indent=1) + "\n")
    note(results.lines(summary))
    return 1 if summary["found"] else 0


def in_lab(options: argparse.Namespace) -> int:
    """Boot a machine, have it do the steps, and write the row."""
    from tests.proof.machine import boot

    argv = [*("python", "-m", "tests.model", "play", "--commit", commit()),
            *("--steps", str(options.steps), "--seed", str(options.seed))]  # fmt: skip
    status, (file,) = boot(
        options.suite, as_root=options.root, argvs=[argv],
        seconds=SECONDS_EACH * options.steps, result="model.json",
    )  # fmt: skip
    if not file.exists():
        print(f"no result in {file}", file=sys.stderr)
        return status or 1
    if not (options.keep or options.blob):
        row = results.row(json.loads(file.read_text()))
        append(PAGE, results.BEGIN, results.END, row)
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
