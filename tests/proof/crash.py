"""Kills a command, or fails a call of it, at points chosen by a seed; then looks from outside."""

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.machine import PROGRAM

from . import checks
from .calls import Call, Fault, choose, parse, recording, settled, was_struck
from .canaries import Canaries
from .steps import STEPS, Step
from .trial import KINDS, Trial
from .world import Ran, World

WEIGHTS = (4, 4, 1, 1)
SETTLES = 15.0
"""Seconds of reconciles until everything has to be as it should."""
_DOCUMENTED = (0, 1, 5)


@dataclass(frozen=True)
class Good:
    """A run without a fault: its calls, and how long it takes."""

    calls: Sequence[Call]
    seconds: float


class Runner:
    """All trials of one seed, beside the same canaries."""

    def __init__(self, folder: Path, seed: int, steps: Sequence[Step], note: Callable[[str], None]):
        self.folder, self.seed, self.steps, self.note = folder, seed, steps, note
        self.good: dict[str, Good] = {}
        self.reconciling: Sequence[Call] = ()
        self.canaries = Canaries(folder / "canaries")

    def close(self) -> None:
        self.canaries.close()

    def count(self) -> list[Trial]:
        """Do each step once without a fault, and write down its calls; all must be right."""
        trials = []
        for step in self.steps:
            log = self.folder / "calls"
            log.unlink(missing_ok=True)
            trial = Trial(0, step.name, "control", "no fault", struck=True)
            began = time.monotonic()
            with_keeper = step.keeper
            self._play(trial, step, recording(log), None, None, keeper=with_keeper)
            calls = parse(self.text)
            self.good[step.name] = Good(calls, min(time.monotonic() - began, 3.0))
            self.note(f"{step.name}: {len(calls)} calls, {sum(c.ours for c in calls)} of them ours")
            if step.act.__name__ == "reconcile":
                self.reconciling = calls
            trials.append(trial)
        return trials

    def trial(self, number: int) -> Trial:
        """Do one trial: everything of it follows from the seed and its number."""
        chance = random.Random(f"{self.seed}/{number}")
        step = chance.choice(self.steps)
        (kind,) = chance.choices(KINDS, WEIGHTS)
        good = self.good[step.name]
        log = self.folder / "strike"
        log.unlink(missing_ok=True)
        keeper = step.keeper or (step.act.__name__ != "install" and chance.random() < 0.15)
        if kind == "moment":
            after = chance.uniform(0, good.seconds)
            trial = Trial(number, step.name, kind, f"SIGKILL after {after * 1000:.0f} ms", True)
            self._play(trial, step, (), after, None, keeper=keeper)
            return trial
        fault = choose(good.calls, chance, errors=kind == "error")
        then = None
        if kind == "pair" and self.reconciling:
            then = choose(self.reconciling, chance, errors=False)
        words = str(fault) + (f", then reconcile: {then}" if then else "")
        trial = Trial(number, step.name, kind, words + (", beside a keeper" if keeper else ""))
        self._play(trial, step, fault.options(log), None, then, keeper=keeper, error=fault.error)
        trial.struck = was_struck(log)
        return trial

    def _play(
        self, trial: Trial, step: Step, strike: Sequence[str], after: float | None,
        then: Fault | None, *, keeper: bool, error: str = "",
    ) -> None:  # fmt: skip
        began = time.monotonic()
        folder = self.folder / f"trial.{trial.number}"
        shutil.rmtree(folder, ignore_errors=True)
        world = World(folder, f"proof:{self.seed}:{trial.number}")
        try:
            if keeper and not step.keeper:
                world.keeper()
            ran = step.act(world, strike, after)
            trial.wrong += _status(step, ran, error, bool(strike) or after is not None)
            if then is not None:
                world.call([PROGRAM, "reconcile"], None, then.options(self.folder / "second"))
            self._settle(trial, world, keeper=keeper)
            if step.mend is not None:
                step.mend(world)
            trial.wrong += checks.final(world)
            trial.wrong += self.canaries.complaints()
            log = self.folder / "calls"
            self.text = ""
            if trial.kind == "control":
                settled(log)
                self.text = log.read_text(errors="replace")
        except (AssertionError, OSError, subprocess.SubprocessError) as failed:
            trial.wrong.append(f"trial: {type(failed).__name__}: {str(failed)[:300]}")
        finally:
            trial.log = "".join(
                f"$ {' '.join(each.argv)} -> {each.status}\n{each.text}" for each in world.ran
            )
            world.close()
            trial.seconds = time.monotonic() - began

    def _settle(self, trial: Trial, world: World, *, keeper: bool) -> None:
        """Reconcile until all is as it has to be, or the time is over."""
        until = time.monotonic() + SETTLES
        if keeper:  # it does by itself what a reconcile does
            quick = time.monotonic() + 3
            while checks.pending(world) and time.monotonic() < quick:
                time.sleep(0.05)
        while True:
            trial.rounds += 1
            ran = world.call([PROGRAM, "reconcile"])
            if ran.status not in _DOCUMENTED:
                trial.wrong.append(f"status: reconcile afterwards answered {ran.status}")
            wrong = checks.pending(world)
            if not wrong:
                break
            if time.monotonic() > until:
                trial.wrong += wrong
                break
            time.sleep(0.2)
        if ran.status != 0 and not trial.wrong:
            trial.wrong.append(f"status: the last reconcile answered {ran.status}: {ran.text}")


def _status(step: Step, ran: Ran, error: str, under_fire: bool) -> list[str]:
    """Return what is wrong with the answer of the command under fire."""
    allowed = {0}
    if error:
        allowed |= set(step.statuses)
    elif under_fire:
        allowed |= {-9, *step.statuses}
    if ran.status is None or ran.status in allowed:
        return []
    words = ran.text.strip().splitlines()
    return [f"status: {ran.status} is not documented for this ({words[-1][:160] if words else ''})"]


def run(
    count: int, seed: int, names: Sequence[str], only: Sequence[int], out: Path,
    note: Callable[[str], None],
) -> tuple[list[Trial], int]:  # fmt: skip
    """Do the trials; return them, and how many canaries watched."""
    steps = [step for step in STEPS if not names or step.name in names]
    folder = out / f"crash-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    runner = Runner(folder, seed, steps, note)
    try:
        trials = runner.count()
        for trial in trials:
            _report(trial, folder, note)
        good = [trial.step for trial in trials if not trial.wrong]
        runner.steps = steps if only else [step for step in steps if step.name in good]
        for number in only or range(1, count + 1):
            trial = runner.trial(number)
            trials.append(trial)
            _report(trial, folder, note)
            if trial.seconds > 12:
                note(f"slow: {trial.seconds:.0f} s, {trial.rounds} reconciles: {trial}")
            if number % 25 == 0:
                struck = sum(each.struck for each in trials)
                note(f"{number} of {count}: {struck} struck, "
                     f"{sum(bool(each.wrong) for each in trials)} wrong")  # fmt: skip
        return trials, len(runner.canaries.all)
    finally:
        runner.close()


def _report(trial: Trial, folder: Path, note: Callable[[str], None]) -> None:
    if trial.wrong:
        note(str(trial))
        with (folder / "wrong").open("a") as file:
            file.write(f"{trial}\n{trial.log}\n")
