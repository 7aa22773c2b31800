"""``python -m benchmarks``: needs systemd as PID 1, native speed, and an otherwise idle machine."""

import argparse
import platform
import sys
from pathlib import Path

from benchmarks import fleet, hook, keeper, launch, lists, runs, spawn, start, top
from benchmarks.alone import alone
from benchmarks.measure import show


def main() -> int:
    """Read the options and measure, in a service of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of it, to check that it runs")
    parser.add_argument("--here", action="store_true", help="not in a service of its own")
    options = parser.parse_args()
    if not launch.SCOPEKEEPER or not Path("/run/systemd/system").exists():
        print("benchmarks: needs scopekeeper on the PATH and systemd as PID 1", file=sys.stderr)
        return 2
    if not options.here:
        return alone([sys.executable, "-m", "benchmarks", "--here", *sys.argv[1:]])
    measure(quick=options.quick)
    return 0


def measure(*, quick: bool) -> None:
    """Measure everything, or a tenth of it, and print the tables."""
    kind = "direct" if launch.is_direct() else "as pip wrote it"
    print(f"Python {platform.python_version()}, Linux {platform.release()}, launcher {kind}")
    show("One launch (medians)", launch.single(2 if quick else 10, 5 if quick else 30))
    show("A short call (medians)", start.starting(2 if quick else 10, 5 if quick else 30))
    show("A hook of a client (medians)", hook.returning(10 if quick else 300))
    show("A gateway in Python", spawn.spawning(2 if quick else 10, 5 if quick else 30))
    show("A cohort", launch.cohort(1 if quick else 15))
    show("A crowd", launch.crowd())
    show("Listing", fleet.listing(40 if quick else 400, 1 if quick else 5))
    for scopes in (3, 30) if quick else (3, 400, 2000):
        show(f"Looking at {scopes} scopes", lists.looking(scopes, 1 if quick else 5))
    for scopes in (3, 30) if quick else (3, 400, 2000):
        rows = top.watching(scopes, 6 if quick else 60, judged=scopes == 400)
        show(f"A live view of {scopes} scopes", rows)
    show("Keeping", keeper.keeping(100 if quick else 1000, 5 if quick else 30, 3 if quick else 20))
    show(
        "Holding terminals",
        runs.holding(*((100, 8, 200, 20, 2) if quick else (1000, 60, 2000, 200, 3))),
    )
    show("Stopping", fleet.stopping(20 if quick else 200, 1 if quick else 7))


if __name__ == "__main__":
    sys.exit(main())
