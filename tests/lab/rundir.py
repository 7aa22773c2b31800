"""The folder of one run: its layout, its making, and the sweeping of dead ones."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .host import Home, owner_is_dead, owner_tag, remove_tree

PREFIX = "scopekeeper-lab"


@dataclass(frozen=True, slots=True)
class Run:
    """Paths of one run.  ``name`` ends in its owner's tag and a serial, and is unique."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def upper(self) -> Path:
        """What is laid over the image's root: the checkout, the installed project, the jobs."""
        return self.folder / "upper"

    @property
    def scratch(self) -> Path:
        """Mount points, overlay work folders and disks; gone when the run ends."""
        return self.folder / "scratch"

    @property
    def out(self) -> Path:
        """What the machine hands out; kept."""
        return self.folder / "out"

    @property
    def log(self) -> Path:
        return self.out / "log.txt"

    @property
    def events(self) -> Path:
        return self.out / "events.jsonl"

    @property
    def console(self) -> Path:
        return self.out / "console.txt"

    @property
    def host_log(self) -> Path:
        return self.out / "host.txt"


def create(home: Home, suite: str, kind: str) -> Run:
    """Make a new run folder that no other process or thread can have chosen."""
    home.runs.mkdir(parents=True, exist_ok=True)
    for serial in itertools.count(1):
        run = Run(home.runs / f"{PREFIX}-{suite}-{kind}-{owner_tag()}-{serial}")
        try:
            run.folder.mkdir()
        except FileExistsError:
            continue
        for folder in (run.upper, run.scratch, run.out):
            folder.mkdir()
        return run
    raise AssertionError("itertools.count ends")


def discard_inputs(run: Run) -> None:
    """Keep only what the machine handed out."""
    remove_tree(run.upper)
    remove_tree(run.scratch)


def dead(home: Home) -> Iterator[Run]:
    """Runs whose owner ended."""
    for folder in sorted(home.runs.glob(f"{PREFIX}-*")):
        if owner_is_dead(folder.name):
            yield Run(folder)
