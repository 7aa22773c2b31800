"""One example: the steps so far, and the comparison after each."""

import itertools
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from hypothesis.stateful import RuleBasedStateMachine

from tests.machine import cgroup_of
from tests.proof import checks
from tests.proof.canaries import Canaries

from .compare import differences, for_good
from .rig import Rig
from .seen import look
from .shadow import Gateway, Member, Shadow

MOST = 9
"""Members that live at once."""
SETTLES, AGAIN = 30.0, 8.0
"""Seconds until all is as it must be, without any progress; and while a difference is shrunk."""


class Enough(KeyboardInterrupt):
    """So many steps as were asked for are done.

    hypothesis plays more examples than it was asked for, and ends without a finding only by this.
    """


class DifferenceError(AssertionError):
    """What is there is not what the model says."""


@dataclass
class Course:
    """What all examples of a run have in common, and what came of them."""

    folder: Path
    seed: int
    canaries: Canaries
    shadow: type[Shadow] = Shadow
    meddle: Callable[[Rig, Shadow, int], None] | None = None
    """Does something that the model does not know, before each check: to see it found."""
    wants: float = math.inf
    """Steps after which no example begins."""
    steps: int = 0
    examples: int = 0
    note: Callable[[str], None] = print
    patience: float = SETTLES
    shrinking: bool = False
    found: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)
    """The steps of the last example that differed."""


class Example(RuleBasedStateMachine):
    """A world and its model; the rules are in ``moves``."""

    course: ClassVar[Course]
    numbers: ClassVar[itertools.count] = itertools.count(1)  # type: ignore[type-arg]

    def __init__(self) -> None:
        super().__init__()
        if self.course.steps >= self.course.wants and not self.course.shrinking:
            raise Enough
        number = next(self.numbers)
        self.course.examples += not self.course.shrinking
        session = f"model:{self.course.seed}:{number}"
        folder = self.course.folder / f"example.{number}"
        shutil.rmtree(folder, ignore_errors=True)
        self.rig = Rig(folder, session, self.course.canaries)
        self.rig.patience = self._patience
        self.shadow = self.course.shadow()
        self.trace: list[str] = []
        self.count = 0
        self.wanted: dict[str, bool] = {}
        """Whether the child of a place starts a helper, by tags."""

    def teardown(self) -> None:
        try:
            if not self.trace or not self.trace[-1].startswith("differs"):
                self._reconcile()
                self._stop_all()
                self._after("end", settled=True, history=True)
                if wrong := [words for ran in self.rig.ran for words in checks.told(ran)]:
                    self._differs(wrong)
        finally:
            self.rig.close()

    # the step itself

    @property
    def _patience(self) -> float:
        return AGAIN if self.course.shrinking else self.course.patience

    def _after(self, what: str, *, settled: bool = False, history: bool = False) -> None:
        """Compare, until all is as it must be or waiting does not help."""
        course = self.course
        self.trace.append(what)
        if not course.shrinking and what != "end":
            course.steps += 1
            if course.steps % 50 == 0:
                at = time.strftime("%H:%M:%S")
                course.note(f"{at} {course.steps} steps, {len(course.found)} differences")
            word = what.split(" ", 1)[0]
            course.kinds[word] = course.kinds.get(word, 0) + 1
        if self.shadow.has_keeper:
            self.shadow.settle()
            settled = True
        if course.meddle is not None:
            course.meddle(self.rig, self.shadow, len(self.trace))
        fewest, until = 10**6, 0.0
        while wrong := self._wrong(settled=settled, history=history):
            now = time.monotonic()
            if len(wrong) < fewest:
                fewest, until = len(wrong), now + self._patience
            if for_good(wrong) or now > until:
                self._differs(wrong)
            time.sleep(0.05)

    def _wrong(self, *, settled: bool, history: bool) -> list[str]:
        rig, shadow = self.rig, self.shadow
        paths = [path for each in shadow.members for path in each.paths]
        seen = look(rig, [*paths, *shadow.kept])
        wrong = differences(shadow, seen, rig.yard, settled=settled, history=history)
        return [*wrong, *rig.canaries.complaints()]

    def _differs(self, wrong: list[str]) -> None:
        course = self.course
        text = "; ".join(wrong)
        course.trace = list(self.trace)
        if not course.shrinking:
            course.found.append(text)
            course.note(f"after {course.steps} steps: {text}\n" + "\n".join(self.trace))
        course.shrinking = True
        self.trace.append(f"differs: {text}")
        raise DifferenceError("\n".join([*self.trace, *self.rig.log.read_text().splitlines()[-5:]]))

    def _ask(self, *words: str, answers: tuple[int, ...] = (0,)) -> str:
        try:
            return self.rig.ask(*words, answers=answers).text
        except AssertionError as error:
            self.trace.append(" ".join(words))
            return self._differs([str(error)]) or ""

    def _began(self, start: Callable[[], object], what: str) -> None:
        try:
            start()
        except AssertionError as error:
            self.trace.append(what)
            self._differs([str(error)])

    # what there is

    def _sessions(self, number: int) -> str:
        return f"{self.rig.session}:{'abc'[number % 3]}"

    def _up(self, number: int, *, bare: bool = False) -> Gateway:
        found = [each for each in self.shadow.up() if not (bare and each.unit)]
        return found[number % len(found)]

    def _has_bare(self) -> bool:
        return any(not each.unit for each in self.shadow.up())

    def _has_room(self) -> bool:
        return self._has_bare() and len(self.shadow.living()) < MOST

    def _commands(self) -> list[Member]:
        return [each for each in self.shadow.running() if each.leads]

    def _new(self, gateway: Gateway, **how: object) -> Member:
        self.count += 1
        tag = f"m{self.count}"
        member = Member(tag, **({"name": tag} | how), owner=gateway)  # type: ignore[arg-type]
        if gateway.unit and member.lane == "told":
            member.lane = "main"  # systemd ends it with the service, whatever its lane says
        self.shadow.members.append(member)
        return member

    # how it ends

    def _stop_all(self) -> None:
        for session in sorted({each.session for each in self.shadow.members}):
            self._ask("stop", "-s", session, "--escaped")
        for each in self.shadow.members:
            each.helps = each.helps and not each.is_out
        self.shadow.stop(self.shadow.living())

    def _reconcile(self) -> None:
        """Reconcile until all graces are over: the first one only begins some of them."""
        due = [each for each in self.shadow.living() if each.due()]
        until = time.monotonic() + self._patience
        self._ask("reconcile")
        while time.monotonic() < until and any(self._is_there(each) for each in due):
            time.sleep(0.1)
            self._ask("reconcile")
        self.shadow.settle()
        self._after("reconcile", settled=True, history=True)

    def _is_there(self, member: Member) -> bool:
        return any(
            cgroup_of(pid).endswith(f"/{member.leaf}") for pid in {member.command, member.helper}
        )
