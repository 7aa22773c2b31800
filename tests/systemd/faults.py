"""Faults of the machine: canaries and members beside them, launches during them, what holds after.

Only in a machine of the lab: each ends what many programs of a machine need.
"""

import json
import os
import platform
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import machine
from tests.machine import PROGRAM, ROOT, eventually
from tests.proof import checks
from tests.proof.canaries import Canaries
from tests.proof.world import World

from .manager import manager_version

AT_ONCE = 8
SETTLES = 90.0
"""Seconds until all is as it has to be: the keeper waits for some of it."""
_LIMIT = 150.0
"""Seconds that one launch may take; one waits for 30 s for a manager that does not answer."""
_SAYS = "scopekeeper: "
_WAITS = "scopekeeper: waiting for "


def many(most: int, few: int) -> int:
    """Return how often to try: ``most`` with ``--thorough``."""
    return most if machine.THOROUGH else few


@dataclass
class Launches:
    """What became of launches during a fault: each is contained, or refused in one clear line."""

    contained: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        words = Counter(line.partition(":")[2][:80] for line in self.refused.values())
        return f"{len(self.contained)} contained, {len(self.refused)} refused {dict(words)}"

    def judge(self, name: str, status: int, out: str, errors: str) -> None:
        """Note one."""
        lines = [line for line in errors.splitlines() if not line.startswith(_WAITS)]
        if status == 0 and f".scope/m-{name}." in out and not lines:
            self.contained.append(name)
        elif status == 125 and not out and len(lines) == 1 and lines[0].startswith(_SAYS):
            self.refused[name] = lines[0]
        else:
            self.wrong.append(f"{name}: {status}: {out}{errors}")


class Faults:
    """One test's canaries and world."""

    def __init__(self, folder: Path, session: str) -> None:
        self.canaries = Canaries(folder / "canaries")
        self.world = World(folder / "world", session)
        self.session = session

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Complete any command of the program, in this world."""
        return subprocess.run(
            [PROGRAM, *words], env=self.world.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=_LIMIT,
        )  # fmt: skip

    def launch(self, name: str, session: str) -> tuple[int, str, str]:
        """Launch a command that shows where it is, and ends."""
        done = self.call("run", "-s", session, "-n", name, "--", "cat", "/proc/self/cgroup")
        return done.returncode, done.stdout, done.stderr

    def launches(self, count: int, fault: Callable[[], object]) -> Launches:
        """Launch so many commands, some into new scopes and some into one; do the fault meanwhile.

        It is done again and again until all are over.
        """
        made = Launches()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            tried = {}
            for number in range(count):
                own = f":{number}" if number % 4 else ""
                name = f"launch{number}"
                tried[name] = pool.submit(self.launch, name, f"{self.session}{own}")
            while not all(each.done() for each in tried.values()):
                fault()
        for name, each in tried.items():
            made.judge(name, *each.result())
        return made

    def settle(self) -> None:
        """Assert that a reconcile or the keeper has made all as it has to be."""

        def wrong() -> list[str]:
            self.world.call([PROGRAM, "reconcile"])
            return [*checks.pending(self.world), *self.canaries.complaints()]

        last: list[str] = []

        def settled() -> bool:
            last[:] = wrong()
            return not last

        try:
            eventually(settled, SETTLES, 0.2)
        except AssertionError:
            pytest.fail("\n".join(last))
        assert [*checks.final(self.world), *self.canaries.complaints()] == []

    def ends(self) -> Counter[str]:
        """Return how many ends the history has of each name."""
        file = self.world.state / "history.db"
        if not file.exists():
            return Counter()
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return Counter(name for (name,) in connection.execute("SELECT name FROM ends"))

    def prove(self, made: Launches, fault: str) -> None:
        """Assert that each launch has one end or has not been, and that nothing is half done."""
        assert made.wrong == []
        self.settle()
        eventually(lambda: self.world.call([PROGRAM, "reconcile"]).status == 0)

        def differs() -> list[str]:
            ends = self.ends()
            once = [f"{name}: {ends[name]} ends" for name in made.contained if ends[name] != 1]
            return once + [f"{name} was refused" for name in made.refused if ends[name]]

        def is_told() -> bool:
            self.call("history", "--json")  # has ends written that nobody saw
            return not differs()

        try:
            eventually(is_told, SETTLES, 0.5)
        except AssertionError:
            pytest.fail("\n".join(differs()[:20]))
        note(fault, f"{len(made.contained) + len(made.refused)} launches", str(made))

    def close(self) -> None:
        """End everything."""
        self.world.close()
        self.canaries.close()


def note(fault: str, tried: str, outcome: str) -> None:
    """Write a line of figures: for a reader, and for the table of docs/reliability.md."""
    print(f"{fault}: {tried}: {outcome}")
    if "LAB_OUT" in os.environ:
        line = {
            "kernel": platform.release(), "systemd": str(manager_version()),
            "Python": platform.python_version(), "user": "root" if ROOT else "user",
            "fault": fault, "tried": tried, "outcome": outcome,
        }  # fmt: skip
        with open(f"{os.environ['LAB_OUT']}/faults.jsonl", "a") as file:
            file.write(f"{json.dumps(line)}\n")


def one_line(done: subprocess.CompletedProcess[str], statuses: Sequence[int] = (0,)) -> None:
    """Assert that a command has answered, and complained in one line if it has."""
    assert done.returncode in statuses, (done.returncode, done.stdout, done.stderr)
    for bad in ("Traceback", "Exception ignored", "internal error"):
        assert bad not in done.stderr, done.stderr
    if done.returncode:
        assert len(done.stderr.splitlines()) <= 1, done.stderr


@pytest.fixture
def faults(tmp_path: Path, session: str) -> Iterator[Faults]:
    """Provide them; afterwards nothing is left."""
    if "LAB_BOOT" not in os.environ:
        pytest.skip("ends what a whole machine needs: only in a machine of the lab")
    made = Faults(tmp_path, session)
    yield made
    made.close()
