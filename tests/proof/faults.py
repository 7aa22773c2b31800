"""``python -m tests.proof.faults``: faults of the machine in one of the lab, and their table.

The tests write a line of figures each (``tests/systemd/faults.py``); this adds them to the table of
``docs/reliability.md``, with the command that repeats them.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from . import results
from .about import PAGE, commit, options_of_lab
from .machine import boot

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
FILES = tuple(
    f"tests/systemd/test_faults_{each}.py" for each in ("bus", "manager", "reload", "room")
)
_SECONDS = 5400


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    top = argparse.ArgumentParser(prog="python -m tests.proof.faults", description=__doc__)
    top.add_argument("--quick", action="store_true", help="as few rounds as the suites do")
    options_of_lab(top)
    return top


def main(argv: Sequence[str]) -> int:
    """Boot a machine, run the tests in it, and write the table."""
    options = parser().parse_args(argv)
    at = commit()
    words = [] if options.quick else ["--thorough"]
    pytest = ("python", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "systemd or root")
    status, (figures,) = boot(
        options.suite, as_root=options.root, argvs=[(*pytest, *words, *FILES)],
        seconds=_SECONDS, result="faults.jsonl",
    )  # fmt: skip
    if status:
        return status
    given = " ".join(word for word in argv if word != "--keep")
    for line in [] if options.keep else figures.read_text().splitlines():
        results.append(PAGE, BEGIN, END, row(json.loads(line), at, given))
    return 0


def row(figures: dict[str, str], commit: str, given: str) -> str:
    """Return one row of the table."""
    cells = [commit, *(figures[key] for key in ("kernel", "systemd", "Python", "user", "fault")),
             figures["tried"], figures["outcome"],
             f"`make faults{f' FAULTS_ARGS={given!r}' if given else ''}`"]  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
