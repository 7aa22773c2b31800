"""The command line: ``python -m tests.parts``."""

import argparse
import signal
import time
from collections.abc import Sequence
from types import FrameType

from . import catalogue, running, table
from .catalogue import CHECKOUT

RESULTS = CHECKOUT / "build/results"


def parser() -> argparse.ArgumentParser:
    """The options."""
    top = argparse.ArgumentParser(
        prog="python -m tests.parts", description="Run the parts of the tests, side by side."
    )
    top.add_argument("which", choices=("test", "all", "list"), help="make test, make test-all")
    top.add_argument("parts", nargs="*", metavar="PART", help="only these")
    top.add_argument(
        "--within",
        type=float,
        metavar="MINUTES",
        help="after those of `test`, begin each other part in its order while its time fits",
    )
    top.add_argument(
        "--since",
        type=float,
        default=time.time(),
        metavar="EPOCH",
        help="when those minutes have begun",
    )
    top.add_argument("--jobs", type=int, metavar="N", help="how much at a time (see catalogue.py)")
    return top


def main(argv: Sequence[str]) -> int:
    """Run them; 0 where all have passed, 1 where not, 2 for wrong usage, 130 when interrupted."""
    options = parser().parse_args(argv)
    if options.which == "list":
        for part in catalogue.PARTS:
            print(f"{part.name}: {part.where}: {part.about}; {part.minutes} min")
        return 0
    stopping = Stopping()
    try:
        chosen = catalogue.named(options.parts) if options.parts else catalogue.PARTS
    except KeyError as error:
        print(f"no such part: {error.args[0]}; known: {' '.join(catalogue.names())}")
        return 2
    first = [part for part in chosen if part.first or options.parts or options.which == "all"]
    rest = [part for part in chosen if part not in first]
    budget = None
    if options.within:
        budget = running.Budget(options.since + 60 * options.within, time.time)
    ran = running.run(
        first,
        rest if budget else [],
        RESULTS,
        stopping,
        budget,
        options.jobs,
    )
    left = [part for part in catalogue.PARTS if part not in [result.part for result in ran]]
    why = f"{options.within:.0f} minutes are not enough" if budget else "not asked for"
    for line in ["", *table.lines(ran), *table.left_out(left, why)]:
        print(line)
    last = table.summary(ran, time.time() - options.since)
    (RESULTS / "summary.txt").write_text(f"{last}\n")
    print(last, flush=True)
    if stopping.asked:
        return 130
    return 1 if not ran or any(result.why for result in ran) else 0


class Stopping:
    """Whether somebody asked this to end.

    What is ignored where this is started (nohup, or a shell without job control) stays without
    effect here, and is as usual for what is started from here: a handler is not inherited.
    """

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            ignored = signal.getsignal(number) is signal.SIG_IGN
            signal.signal(number, self._nothing if ignored else self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def _nothing(self, _number: int, _frame: FrameType | None) -> None:
        return
