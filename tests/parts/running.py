"""Run parts side by side, as many as the machine takes, and tell how each ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from . import results
from .catalogue import CHECKOUT, Part
from .results import Result

POLL_S = 0.2
SHOWN_LINES = 400
# A part that is to end tears its machines down; after this it is ended hard.
END_LIMIT_S = 180.0


class Asked(Protocol):
    """Says whether to stop."""

    @property
    def asked(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Budget:
    """Until when (by ``clock``) parts may take."""

    until: float
    clock: Callable[[], float]

    def fits(self, part: Part) -> bool:
        return self.clock() + 60 * part.minutes <= self.until


@dataclass(slots=True)
class Running:
    """A part that was started, one command of it after the other."""

    part: Part
    folder: Path
    left: list[tuple[str, ...]] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    status: int = 0

    @property
    def output(self) -> Path:
        return self.folder / f"{self.part.name}.txt"

    @property
    def tally(self) -> Path:
        return self.folder / f"{self.part.name}.jsonl"

    def start(self) -> None:
        for path in (self.output, self.tally):
            path.unlink(missing_ok=True)
        self.started = time.monotonic()
        self.left = self.part.commands(str(self.tally))
        self._next()

    def _next(self) -> None:
        # not the terminal's to interrupt, but ended with us
        argv = ["setpriv", "--pdeathsig", "TERM", *self.left.pop(0)]
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=CHECKOUT,
                start_new_session=True,
            )  # fmt: skip

    def poll(self) -> Result | None:
        """Return what became of it once it has ended."""
        assert self.process is not None
        status = self.process.poll()
        if status is None:
            return None
        self.status = self.status or status
        if self.left and (status == 0 or self.part.goes_on):
            self._next()
            return None
        seconds = time.monotonic() - self.started
        read = results.read(self.tally) if self.part.is_pytest else results.read_words(self.output)
        return Result(self.part, self.status, seconds, read, self.output)

    def end(self, number: int) -> None:
        assert self.process is not None
        self.left = []
        if self.process.poll() is None:
            self.process.send_signal(number)


def run(
    first: Sequence[Part],
    rest: Sequence[Part],
    folder: Path,
    stopping: Asked,
    budget: Budget | None = None,
    capacity: int | None = None,
) -> list[Result]:
    """Run ``first``, and of ``rest`` what the budget allows: in order, up to the first too long."""
    make_folder(folder)
    room = capacity or default_capacity()
    waiting = [*first, *rest]
    running: list[Running] = []
    ended: list[Result] = []
    deadline: float | None = None
    while running or (waiting and not stopping.asked):
        while waiting and not stopping.asked:
            part = waiting[0]
            if sum(each.part.weight for each in running) + part.weight > room and running:
                break
            if budget is not None and part not in first and not budget.fits(part):
                waiting = []
                break
            waiting.pop(0)
            say(f"begun: {part.name} ({part.where}: {part.about})")
            running.append(Running(part, folder))
            running[-1].start()
        if stopping.asked:
            deadline = end_all(running, deadline)
        for each in list(running):
            result = each.poll()
            if result is not None:
                running.remove(each)
                ended.append(result)
                tell(result)
        time.sleep(POLL_S)
    order = [*first, *rest]
    return sorted(ended, key=lambda result: order.index(result.part))


def end_all(running: Sequence[Running], deadline: float | None) -> float:
    """Ask all to end, once; when that has lasted too long, end them hard."""
    now = time.monotonic()
    if deadline is None:
        say("to be ended: " + ", ".join(each.part.name for each in running))
        for each in running:
            each.end(signal.SIGINT)
        return now + END_LIMIT_S
    if now > deadline:
        for each in running:
            each.end(signal.SIGKILL)
    return deadline


def default_capacity() -> int:
    """Tests wait more than they work: a machine's take less than half of a processor."""
    return 1 + 2 * (os.cpu_count() or 1)


def make_folder(folder: Path) -> None:
    """Make the folder of outputs, for whoever the checkout belongs to."""
    owner = CHECKOUT.stat()
    for each in (folder.parent, folder):
        if not each.exists():
            each.mkdir(parents=True)
            os.chown(each, owner.st_uid, owner.st_gid)


def say(text: str) -> None:
    """Say something at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def tell(result: Result) -> None:
    """Say how a part ended, and show all of it where it failed."""
    counts = result.tally
    told = f"{counts.passed} passed, {counts.failed} failed, {sum(counts.skipped.values())} skipped"
    verdict = "FAILED" if result.why else "ended"
    words = f"{result.why}; " if result.why else ""
    say(
        f"{verdict}: {result.part.name}: {words}{told if result.part.counts else ''} "
        f"{result.seconds / 60:.1f} min ({result.output})"
    )
    if result.why and result.output.exists():
        shown = result.output.read_text(errors="replace").splitlines()
        if len(shown) > SHOWN_LINES:
            print(f"... {len(shown) - SHOWN_LINES} lines before these, in {result.output}")
        print("\n".join(shown[-SHOWN_LINES:]), flush=True)
    sys.stdout.flush()
