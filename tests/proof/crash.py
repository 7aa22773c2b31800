"""Kills commands, or fails a call of them, at points chosen by a seed; then looks from outside."""

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.machine import PROGRAM

from . import calls, checks
from .calls import Call, Fault, Program, choose
from .canaries import Canaries
from .pairs import PAIRS, Pair
from .steps import STEPS, Step
from .trial import KINDS, Trial
from .world import NONE, Ran, Strike, World

WEIGHTS = dict(zip(KINDS, (4, 5, 1, 3, 1, 1), strict=True))
SETTLES = 15.0
"""Seconds of reconciles until everything has to be as it should."""
_DOCUMENTED = (0, 1, 5)
_NOT_EVEN_NULL = 120
"""Python's own answer if what is left cannot even be written to /dev/null: no kernel does that."""
_APART = 0.06
"""Seconds that the second command of a pair begins later, at most."""


@dataclass
class Good:
    """A run without a fault: its calls, what it starts, and how long it takes."""

    calls: Sequence[Call]
    programs: Sequence[Program]
    seconds: float


@dataclass
class Play:
    """What a trial does in its world."""

    act: Callable[[World], list[str]]
    """Returns what is wrong with the answers."""
    mend: Callable[[World], None] | None = None
    has_keeper: bool = False
    """Whether ``act`` starts the keeper that has to be waited for."""
    keeper_before: bool = False
    then: Strike = field(default=NONE)
    """What befalls the first reconcile."""


class Runner:
    """All trials of one seed, beside the same canaries."""

    def __init__(
        self, folder: Path, seed: int, steps: Sequence[Step], pairs: Sequence[Pair],
        note: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.folder, self.seed, self.note = folder, seed, note
        self.steps, self.pairs = steps, pairs
        self.good: dict[str, Good] = {}
        self.sides: dict[str, tuple[Sequence[Call], Sequence[Call]]] = {}
        self.canaries = Canaries(folder / "canaries")

    def close(self) -> None:
        self.canaries.close()

    # runs without a fault

    def count(self) -> list[Trial]:
        """Do each step and pair without a fault, and write down its calls; all must be right."""
        trials = []
        for step in self.steps:
            trial, began = Trial(0, step.name, "control", "no fault", struck=True), time.monotonic()
            log = self._log("calls")
            statuses = step.statuses if step.always else ()
            self._play(trial, self._step(step, calls.recording(log), statuses, error="none"))
            seconds = min(time.monotonic() - began, 3.0)
            made = calls.parse(_whole(log))
            found = self.good[step.name] = Good(made, (), seconds)
            if any(each.name == "execve" and not each.is_first for each in made):
                log = self._log("programs")
                self._play(trial, self._step(step, calls.programs_of(log), statuses, error="none"))
                found.programs = calls.programs(_whole(log))
            words = ", ".join(each.name for each in found.programs)
            self.note(f"{step.name}: {len(made)} calls, {sum(c.ours for c in made)} of them ours; "
                      f"{', '.join(calls.offered(made))}; starts {words or 'nothing'}")  # fmt: skip
            trials.append(trial)
        for pair in self.pairs:
            trial = Trial(0, pair.name, "control", "no fault", struck=True)
            logs = self._log("calls.1"), self._log("calls.2")
            strikes = calls.recording(logs[0]), calls.recording(logs[1])
            self._play(trial, self._pair(pair, strikes, 0.0, ("", "")))
            first, second = (calls.parse(_whole(log)) for log in logs)
            self.sides[pair.name] = first, second
            self.note(f"{pair.name}: {len(first)} and {len(second)} calls")
            trials.append(trial)
        return trials

    # trials

    def trial(self, number: int) -> Trial:
        """Do one trial: everything of it follows from the seed and its number."""
        chance = random.Random(f"{self.seed}/{number}")
        kinds = [kind for kind in KINDS if self._has(kind)]
        (kind,) = chance.choices(kinds, [WEIGHTS[each] for each in kinds])
        if kind == "beside":
            return self._side_by_side(number, chance)
        steps = [each for each in self.steps if kind != "program" or self.good[each.name].programs]
        (step,) = chance.choices(steps, [each.weight for each in steps])
        good = self.good[step.name]
        trial = Trial(number, step.name, kind, "")
        log = self._log("strike")
        second = self._log("second")
        then, error, statuses = NONE, "", step.statuses
        if kind == "moment":
            strike = Strike(after=chance.uniform(0, good.seconds))
            trial.what = f"SIGKILL after {(strike.after or 0) * 1000:.0f} ms"
        elif kind == "program":
            program = chance.choice(good.programs)
            at = chance.randint(1, program.calls)
            strike = program.kill(at, log)
            trial.what = f"SIGKILL in {program.name} before call {at} of {program.calls}"
        else:
            fault = choose(good.calls, chance, errors=kind == "error")
            strike, error = fault.strike(log), fault.error
            trial.what, trial.error = str(fault), error
            if fault.on and fault.call.name == "write":
                statuses = (*statuses, _NOT_EVEN_NULL)
            if kind == "pair":
                again = choose(self.good["reconcile"].calls, chance, errors=False)
                then = again.strike(second)
                trial.what += f", then reconcile: {again}"
        play = self._step(step, strike, statuses, error=error)
        play.keeper_before = not step.keeper and not step.alone and chance.random() < 0.15
        trial.what += ", beside a keeper" if play.keeper_before else ""
        play.then = then
        self._play(trial, play)
        trial.struck = kind == "moment" or calls.was_struck(log)
        return trial

    def _has(self, kind: str) -> bool:
        """Return whether the steps and pairs that were asked for have such trials."""
        if kind == "beside":
            return bool(self.pairs)
        if kind == "program":
            return any(self.good[each.name].programs for each in self.steps)
        return bool(self.steps) and (kind != "pair" or "reconcile" in self.good)

    def _side_by_side(self, number: int, chance: random.Random) -> Trial:
        pair = chance.choice(self.pairs)
        logs = self._log("strike"), self._log("second")
        strikes: list[Strike] = []
        words, errors = [], []
        for made, log in zip(self.sides[pair.name], logs, strict=True):
            fault: Fault = choose(made, chance, errors=chance.random() < 0.3)
            strikes.append(fault.strike(log))
            words.append(str(fault))
            errors.append(fault.error)
        pause = chance.choice((0.0, chance.uniform(0, _APART)))
        what = f"{' | '.join(words)}, {pause * 1000:.0f} ms apart"
        trial = Trial(number, pair.name, "beside", what)
        play = self._pair(pair, (strikes[0], strikes[1]), pause, (errors[0], errors[1]))
        play.keeper_before = not pair.keeper and chance.random() < 0.15
        trial.what += ", beside a keeper" if play.keeper_before else ""
        self._play(trial, play)
        trial.struck = any(map(calls.was_struck, logs))
        return trial

    # one of them

    def _step(self, step: Step, strike: Strike, statuses: Sequence[int], *, error: str) -> Play:
        """Return what one step is; only without an error it may be killed."""

        def act(world: World) -> list[str]:
            return _status(step.act(world, strike), statuses, killed=not error)

        return Play(act, step.mend, has_keeper=step.keeper)

    def _pair(
        self, pair: Pair, strikes: tuple[Strike, Strike], pause: float, errors: tuple[str, str]
    ) -> Play:
        def act(world: World) -> list[str]:
            ran = pair.act(world, strikes, pause)
            return [
                words
                for (each, statuses), error in zip(ran, errors, strict=True)
                for words in _status(each, statuses, killed=not error)
            ]

        return Play(act, has_keeper=pair.keeper)

    def _play(self, trial: Trial, play: Play) -> None:
        began = time.monotonic()
        folder = self.folder / f"trial.{trial.number}"
        shutil.rmtree(folder, ignore_errors=True)
        world = World(folder, f"proof:{self.seed}:{trial.number}")
        try:
            if play.keeper_before:
                world.keeper()
            trial.wrong += play.act(world)
            if play.then.hits:
                world.call([PROGRAM, "reconcile"], None, play.then)
            self._settle(trial, world, keeper=play.has_keeper or play.keeper_before)
            if play.mend is not None:
                play.mend(world)
            trial.wrong += checks.final(world)
            trial.wrong += self.canaries.complaints()
        except (AssertionError, OSError, subprocess.SubprocessError) as failed:
            trial.wrong.append(f"trial: {type(failed).__name__}: {str(failed)[:300]}")
        finally:
            trial.log += "".join(
                f"$ {' '.join(each.argv)} -> {each.status}\n{each.text}" for each in world.ran
            )
            world.close()
            trial.seconds += time.monotonic() - began

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

    def _log(self, name: str) -> Path:
        path = self.folder / name
        path.unlink(missing_ok=True)
        return path


def _whole(log: Path) -> str:
    calls.settled(log)
    return log.read_text(errors="replace")


def _status(ran: Ran, statuses: Sequence[int], *, killed: bool) -> list[str]:
    """Return what is wrong with the answer of a command under fire."""
    allowed = {0, *statuses, *((-9,) if killed else ())}
    if ran.status is None or ran.status in allowed:
        return []
    lines = ran.text.strip().splitlines()
    words = lines[-1][:160] if lines else ""
    return [f"status: {ran.argv[1]}: {ran.status} is not documented for this ({words})"]


def run(
    numbers: Sequence[int], seed: int, names: Sequence[str], out: Path, note: Callable[[str], None],
    *, seconds: float, whatever: bool = False,
) -> tuple[list[Trial], int]:  # fmt: skip
    """Do trials until some seconds are over; return them, and how many canaries watched.

    Steps whose run without a fault goes wrong get no trials, unless ``whatever``.
    """
    steps = [step for step in STEPS if not names or step.name in names]
    pairs = [pair for pair in PAIRS if not names or pair.name in names]
    folder = out / f"crash-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    runner = Runner(folder, seed, steps, pairs, note)
    try:
        trials = runner.count()
        for trial in trials:
            _report(trial, folder, note)
        if not whatever:
            good = [trial.step for trial in trials if not trial.wrong]
            runner.steps = [step for step in steps if step.name in good]
            runner.pairs = [pair for pair in pairs if pair.name in good]
        until = time.monotonic() + seconds
        for done, number in enumerate(numbers, 1):
            if time.monotonic() > until:
                break
            trial = runner.trial(number)
            trials.append(trial)
            _report(trial, folder, note)
            if trial.seconds > 12:
                note(f"slow: {trial.seconds:.0f} s, {trial.rounds} reconciles: {trial}")
            if done % 50 == 0:
                struck = sum(each.struck for each in trials)
                note(f"{done} of {len(numbers)}: {struck} struck, "
                     f"{sum(bool(each.wrong) for each in trials)} wrong")  # fmt: skip
        return trials, len(runner.canaries.all)
    finally:
        runner.close()


def _report(trial: Trial, folder: Path, note: Callable[[str], None]) -> None:
    if trial.wrong:
        note(str(trial))
        with (folder / "wrong").open("a") as file:
            file.write(f"{trial}\n{trial.log}\n")
