"""Times commands against each other, and prints a table of ratios."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Command = Callable[[], Sequence[str]]
"""Returns the next command line; a different one each time if the command needs a new name."""


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison, of times in milliseconds by default."""

    what: str
    ours: float
    rival: str
    theirs: float
    budget: float | None
    unit: str = "ms"

    @property
    def ratio(self) -> float:
        """Our value divided by the rival's."""
        return self.ours / self.theirs


@dataclass(frozen=True, slots=True)
class Grid:
    """A table for the documentation, as it is there."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which this part of the values lies; 1 is the greatest of them."""
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]


def spawn_without_waiting(argv: Sequence[str]) -> int:
    """Start a command with /dev/null as its input and output; return its pid."""
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    return os.posix_spawn(argv[0], list(argv), os.environ, file_actions=quiet)


def spawn(argv: Sequence[str]) -> float:
    """Run a command with /dev/null as its input and output; return the milliseconds it took."""
    began = time.perf_counter_ns()
    pid = spawn_without_waiting(argv)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    took = (time.perf_counter_ns() - began) / 1e6
    if status != 0:
        raise RuntimeError(f"{' '.join(argv)} exited {status}")
    return took


def medians(commands: Mapping[str, Command], *, rounds: int, block: int) -> dict[str, float]:
    """Return the median time of each command.

    They take turns in blocks: in turns, so that changes of the machine's speed hit all of them; in
    blocks, because the kernel delays the first move between cgroups after a pause by 10 ms.
    """
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            spawn(command())
            times[name] += [spawn(command()) for _ in range(block)]
    return {name: statistics.median(values) for name, values in times.items()}


def show(title: str, table: Sequence[Row] | Grid) -> None:
    """Print a table."""
    print(f"\n{title}\n")
    if isinstance(table, Grid):
        _show_grid(table)
    else:
        _show_rows(table)


def _show_grid(grid: Grid) -> None:
    print(f"{grid.caption}\n")
    for cells in (grid.headers, ["---"] * len(grid.headers), *grid.rows):
        print(f"| {' | '.join(cells)} |")


def _show_rows(rows: Sequence[Row]) -> None:
    print(f"{'what':44}  {'ours':>12}  {'against':34}  {'theirs':>12}  {'ratio':>5}  budget")
    for row in rows:
        verdict = ""
        if row.budget is not None:
            verdict = f"{row.budget:.2f} {'met' if row.ratio <= row.budget else 'MISSED'}"
        print(
            f"{row.what:44}  {row.ours:8.2f} {row.unit:3}  {row.rival:34}  "
            f"{row.theirs:8.2f} {row.unit:3}  "
            f"{row.ratio:5.2f}  {verdict}"
        )
