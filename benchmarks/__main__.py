"""``python -m benchmarks``: needs systemd as PID 1, native speed, and an otherwise idle machine."""

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import apart, fleet, hook, keeper, kill, launch, lists, runs, spawn, start, top
from benchmarks.alone import alone
from benchmarks.measure import Grid, Row, show

Table = tuple[str, Callable[[], Sequence[Row] | Grid]]


def main() -> int:
    """Read the options and measure, in a service of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of it, to check that it runs")
    parser.add_argument("--here", action="store_true", help="not in a service of its own")
    parser.add_argument(
        "--only",
        default="",
        metavar="WORDS",
        help="tables with these words in their title",
    )
    options = parser.parse_args()
    if not launch.SCOPEKEEPER or not Path("/run/systemd/system").exists():
        print("benchmarks: needs scopekeeper on the PATH and systemd as PID 1", file=sys.stderr)
        return 2
    chosen = [each for each in tables(quick=options.quick) if options.only in each[0]]
    if not chosen:
        titles = "; ".join(title for title, _ in tables(quick=options.quick))
        parser.error(f"no table has {options.only!r} in its title: {titles}")
    if not options.here:
        return alone([sys.executable, "-m", "benchmarks", "--here", *sys.argv[1:]])
    kind = "direct" if launch.is_direct() else "as pip wrote it"
    print(f"Python {platform.python_version()}, Linux {platform.release()}, launcher {kind}")
    for title, measure in chosen:
        show(title, measure())
    return 0


def tables(*, quick: bool) -> list[Table]:
    """Return the titles of all tables, and what measures each; quick is a tenth of it."""
    rounds, block = (2, 5) if quick else (10, 30)
    many = (3, 30) if quick else (3, 400, 2000)
    held = (100, 8, 200, 20, 2) if quick else (1000, 60, 2000, 200, 3)
    trees = _SMALL_TREES if quick else _TREES
    idle = (100, 5, 3) if quick else (1000, 30, 20)
    return [
        ("One launch (medians)", lambda: launch.single(rounds, block)),
        ("A short call (medians)", lambda: start.starting(rounds, block)),
        ("A hook of a client (medians)", lambda: hook.returning(10 if quick else 300)),
        ("A gateway in Python", lambda: spawn.spawning(rounds, block)),
        ("A cohort", lambda: launch.cohort(1 if quick else 15)),
        ("A crowd", launch.crowd),
        ("Launches apart", lambda: apart.apart(*((2, 0.2, 3) if quick else (20, 2.0, 20)))),
        ("Listing", lambda: fleet.listing(40 if quick else 400, 1 if quick else 5)),
        *(_looking(scopes, 1 if quick else 5) for scopes in many),
        *(_live(scopes, 6 if quick else 60) for scopes in many),
        ("Keeping", lambda: keeper.keeping(*idle)),
        ("Holding terminals", lambda: runs.holding(*held)),
        *(_killing(count, 1 if quick else rounds) for count, rounds in trees),
        ("Stopping", lambda: fleet.stopping(20 if quick else 200, 1 if quick else 7)),
    ]


_SMALL_TREES = ((1, 1), (100, 1))
_TREES = ((1, 40), (10, 40), (100, 40), (1000, 12), (5000, 5))
"""Processes of a tree, and how often each is killed; one table takes some four minutes."""


def _killing(processes: int, rounds: int) -> Table:
    return f"Kill latency, {processes} in a tree", lambda: kill.killing(processes, rounds)


def _looking(scopes: int, rounds: int) -> Table:
    return f"Looking at {scopes} scopes", lambda: lists.looking(scopes, rounds)


def _live(scopes: int, seconds: float) -> Table:
    judged = scopes == 400
    return (
        f"A live view of {scopes} scopes",
        lambda: top.watching(scopes, seconds, judged=judged),
    )


if __name__ == "__main__":
    sys.exit(main())
