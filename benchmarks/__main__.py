"""``python -m benchmarks``: run where systemd is PID 1, at native speed, with nothing beside it."""

import argparse
import platform
import sys
from pathlib import Path

from benchmarks import fleet, launch
from benchmarks.measure import show


def main() -> int:
    """Measure everything, or quickly, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of it, to see that it runs")
    quick = parser.parse_args().quick
    if not launch.SCOPEKEEPER or not Path("/run/systemd/system").exists():
        print("benchmarks: needs scopekeeper on the PATH and systemd as PID 1", file=sys.stderr)
        return 2
    kind = "direct" if launch.is_direct() else "as pip wrote it"
    print(f"Python {platform.python_version()}, Linux {platform.release()}, launcher {kind}")
    show("One launch (medians)", launch.single(2 if quick else 10, 5 if quick else 30))
    show("A cohort", launch.cohort(1 if quick else 9))
    show("A crowd", launch.crowd())
    show("Listing", fleet.listing(40 if quick else 400, 1 if quick else 5))
    show("Stopping", fleet.stopping(20 if quick else 200, 1 if quick else 3))
    return 0


if __name__ == "__main__":
    sys.exit(main())
