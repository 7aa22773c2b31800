"""``python -m tests.proof.faults``: faults of the machine in one of the lab, and their table.

The tests write a line of figures each (``tests/systemd/faults.py``); this adds them to the table of
``docs/reliability.md``, with the command that repeats them.
"""

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.lab import session
from tests.lab.cli import end_on_signals, note
from tests.lab.machine import Watch
from tests.lab.payload import Job, Work
from tests.lab.spec import USERS

HERE = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
FILES = tuple(
    f"tests/systemd/test_faults_{each}.py" for each in ("bus", "manager", "reload", "room")
)
IN_MACHINE = tuple(f"tests/systemd/test_{each}.py" for each in ("power_points", "clock", "suspend"))
_LIMIT = 5400.0


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    top = argparse.ArgumentParser(prog="python -m tests.proof.faults", description=__doc__)
    top.add_argument("--suite", default="trixie")
    top.add_argument("--root", action="store_true", help="as root, not as the user")
    top.add_argument("--quick", action="store_true", help="as few rounds as the suites do")
    top.add_argument("--keep", action="store_true", help="do not write into docs/reliability.md")
    return top


def main(argv: Sequence[str]) -> int:
    """Boot a machine, run the tests in it, and write the table."""
    options = parser().parse_args(argv)
    user = "root" if options.root else "user"
    words = [] if options.quick else ["--thorough"]
    pytest = ("python", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "systemd or root")
    job = Job("run", USERS[user], (*pytest, *words, *FILES))
    end_on_signals()
    home = session.prepare(note)
    request = session.Request(options.suite, "nspawn", Work((job,), _LIMIT), Path.cwd())

    def show(text: str) -> None:
        print(text, end="", flush=True)

    outcome = session.execute(
        request, home, Watch(note, show, lambda event: None), threading.Event()
    )
    status = next((each for each in outcome.statuses.values() if each), 0)
    if outcome.reason is not None:
        note(f"no verdict: {outcome.reason}")
        return status or 70
    figures = outcome.folder / "out" / "run" / "faults.jsonl"
    rows = [json.loads(line) for line in figures.read_text().splitlines()]
    if not options.keep:
        commit = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"],
                                capture_output=True, text=True).stdout.strip()  # fmt: skip
        given = " ".join(word for word in argv if word != "--keep")
        write(HERE / "docs/reliability.md", [row(each, commit, given) for each in rows])
    return status


def row(figures: dict[str, str], commit: str, given: str) -> str:
    """Return one row of the table."""
    cells = [commit, *(figures[key] for key in ("kernel", "systemd", "Python", "user", "fault")),
             figures["tried"], figures["outcome"],
             f"`make faults{f' FAULTS_ARGS={given!r}' if given else ''}`"]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def write(page: Path, rows: Sequence[str]) -> None:
    """Append rows to the table of the page."""
    before, begin, rest = page.read_text().partition(BEGIN)
    table, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no {BEGIN} and {END}")
    text = "\n".join([table.rstrip(), *rows])
    page.write_text(f"{before}{begin}{text}\n{end}{after}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
