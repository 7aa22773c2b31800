"""``python -m tests.storm storm``: in a machine of the lab. ``... lab storm``: boots one for it."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.proof.about import PAGE, commit, note, options_of_lab, options_of_run, told

from . import results


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    top = argparse.ArgumentParser(prog="python -m tests.storm")
    commands = top.add_subparsers(dest="command", required=True)
    lab = commands.add_parser("lab", help="boot a machine, and write its results into the docs")
    lab.add_argument("what", choices=["storm", "day"])
    options_of_lab(lab)
    for command in (commands.add_parser("storm"), commands.add_parser("day"), lab):
        command.add_argument("--minutes", type=float, default=30)
        command.add_argument("--warm", type=float, default=results.WARM,
                             help="seconds of short commands before the storm")  # fmt: skip
        command.add_argument("--ends", type=int, default=100_000)
        command.add_argument("--hours", type=float, default=24)
        options_of_run(command)
    return top


def main(argv: Sequence[str]) -> int:
    """Do one command."""
    options = parser().parse_args(argv)
    if options.command == "lab":
        return in_lab(options)
    if "LAB_OUT" not in os.environ:
        print("this ends every scope of the machine: only in the lab", file=sys.stderr)
        return 2
    about = told(options.seed, options.commit)
    out = Path(os.environ["LAB_OUT"])
    summary = (storm if options.command == "storm" else day)(options, out) | {"about": about}
    (out / f"{options.command}.json").write_text(json.dumps(summary, indent=1) + "\n")
    note(results.table(options.command, summary))
    grows = [x for x in summary["slopes"].values() if x["verdict"] == "GROWS"]
    return 1 if summary["wrong"] or grows else 0


def storm(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Storm here."""
    from .storm import Storm  # observes the machine's systemd

    folder = out / "storm"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    found = Storm(folder, options.seed, note).run(options.minutes, options.warm)
    return found | {"warm": options.warm}


def day(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Have a keeper live for a day here."""
    from .day import live

    folder = out / "day"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return live(folder, ends=options.ends, hours=options.hours, seed=options.seed, note=note)


def in_lab(options: argparse.Namespace) -> int:
    """Boot a machine, have it do it, and write the table."""
    from tests.proof.machine import boot

    names = ("minutes", "warm", "ends", "hours", "seed")
    words = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    # a shell is the main process of the service: its gateways are other programs
    call = ["python", "-m", "tests.storm", options.what, "--commit", commit(), *words]
    argv = ["sh", "-c", '"$@"; exit $?', "sh", *call]
    seconds = options.warm + 120 * options.minutes + options.ends / 20
    as_root = options.root or options.what == "day"
    status, (file,) = boot(
        options.suite, as_root=as_root, argvs=[argv],
        seconds=int(seconds), result=f"{options.what}.json",
    )  # fmt: skip
    if not file.exists():
        print(f"no result in {file}", file=sys.stderr)
        return status or 1
    if not options.keep:
        results.write(PAGE, options.what, json.loads(file.read_text()))
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
