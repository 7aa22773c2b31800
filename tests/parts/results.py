"""What became of a part: its tests as they were told of, and why it has failed, if it has."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .catalogue import Part

# of one test told of several times (its setup, itself, what came after it; a machine that was
# booted once more) the worst counts
RANKS = ("passed", "skipped", "failed")
# pytest's own: all has passed, something has failed; 5, no test, is what a machine is beside
ORDINARY_STATUSES = (0, 1)
MACHINE = re.compile(r"lab\[")


@dataclass(slots=True)
class Tally:
    """Counts of one part."""

    passed: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """How often for each reason."""
    machines: list[str] = field(default_factory=list)
    """What is said of machines that died or gave no verdict; they are counted as failed."""
    absent: list[str] = field(default_factory=list)
    """Why a machine could not be had at all."""
    over: bool = True

    @property
    def ran(self) -> int:
        return self.passed + self.failed


@dataclass(frozen=True, slots=True)
class Result:
    """A part that was run."""

    part: Part
    status: int
    seconds: float
    tally: Tally
    output: Path

    @property
    def why(self) -> str | None:
        """Why it has failed; None where it has not."""
        tally = self.tally
        if self.part.is_pytest:
            if self.status not in ORDINARY_STATUSES:
                return f"pytest ended with {_named(self.status)}"
            if not tally.over:
                return "pytest did not come to its end"
            if tally.machines:
                return tally.machines[0]
            if not tally.ran and not tally.absent:
                return "NO TEST RAN"
            if self.status and not tally.failed:
                return "failed without a test that has"
        elif self.status:
            return f"ended with {_named(self.status)}"
        return f"{tally.failed} failed" if tally.failed else None

    @property
    def is_absent(self) -> bool:
        """Nothing of it could be run here, and it has said why."""
        return self.why is None and self.part.is_pytest and not self.tally.ran


def _named(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def read(path: Path) -> Tally:
    """Count what a pytest has told; the part of it that was told where it died."""
    tally = Tally(over=False)
    outcomes: dict[str, tuple[str, str]] = {}
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:
            continue  # cut off where the writer died
        if "exit" in told:
            tally.over = True
            continue
        before = outcomes.get(told["id"], ("passed", ""))
        if RANKS.index(told["outcome"]) >= RANKS.index(before[0]):
            outcomes[told["id"]] = told["outcome"], told["why"]
    for name, (outcome, why) in outcomes.items():
        _count(tally, name, outcome, why)
    return tally


def _count(tally: Tally, name: str, outcome: str, why: str) -> None:
    is_machine = MACHINE.match(name)
    match outcome:
        case "failed":
            tally.failed += 1
            if is_machine:
                tally.machines.append(f"{name}: {why.partition(chr(10))[0]}")
        case "skipped":
            tally.skipped[why] += 1
            if is_machine:
                tally.absent.append(why)
        case _ if not is_machine:  # the machine itself is no test
            tally.passed += 1


def read_words(output: Path) -> Tally:
    """Count by the last line that tells numbers, of what is no pytest of ours (vagrant/suites)."""
    tally = Tally()
    text = output.read_text(errors="replace") if output.exists() else ""
    told = [line for line in text.splitlines() if line.startswith("suites: ")]
    for number, kind in re.findall(r"(\d+) (passed|failed|skipped)", told[-1] if told else ""):
        match kind:
            case "passed":
                tally.passed += int(number)
            case "failed":
                tally.failed += int(number)
            case _:
                tally.skipped["said in the machine"] += int(number)
    return tally
