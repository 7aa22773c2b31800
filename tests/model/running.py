"""Runs the state machine until enough steps are done, and reports each difference with its seed."""

import itertools
import random
import re
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, reproduce_failure, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.proof.canaries import Canaries

from .example import Course, Enough
from .moves import Moves

EACH = 30
"""Steps of an example."""


def machine_of(course: Course) -> type[Moves]:
    """Return a state machine of its own for a course."""
    return type("Model", (Moves,), {"course": course, "numbers": itertools.count(1)})


def play(
    course: Course, number: int, examples: int, *, shrinks: bool = True, blob: str = ""
) -> str:
    """Play examples, or the one of a blob; return what is said of the first difference, or ''."""
    machine = machine_of(course)
    machine = seed(number)(machine)
    if blob:
        machine = reproduce_failure(hypothesis.__version__, blob.encode())(machine)
    course.shrinking, before = False, len(course.found)
    phases = [Phase.generate, *([Phase.shrink] if shrinks else [])]
    how = settings(
        max_examples=examples, stateful_step_count=EACH, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=phases, print_blob=True,
        verbosity=Verbosity.quiet, report_multiple_bugs=False,
    )  # fmt: skip
    try:
        run_state_machine_as_test(machine, settings=how)
    except Enough:
        return ""
    except Exception as error:  # noqa: BLE001  whatever went wrong is reported
        if len(course.found) == before:  # it is the suite itself that failed
            course.found.append(f"suite: {type(error).__name__}: {str(error)[:300]}")
            return "".join(traceback.format_exception(error))
        return _words(error)
    return ""


def _words(error: BaseException) -> str:
    """Return the shrunk steps, the difference, and how to play them again."""
    notes: list[str] = []
    for each in [error, *getattr(error, "exceptions", ())]:
        notes += getattr(each, "__notes__", [])
    inner = getattr(error, "exceptions", (error,))[-1]
    blobs = re.findall(r"@reproduce_failure\('[^']*', b'([^']*)'\)", "\n".join(notes))
    again = [f"again: make model MODEL_ARGS='--blob {each}'" for each in blobs]
    return "\n".join([f"{type(error).__name__}: {inner}", *(again or notes)])


def run(
    steps: int,
    number: int,
    out: Path,
    note: Callable[[str], None],
    *,
    shrinks: bool = True,
    blob: str = "",
) -> dict[str, Any]:
    """Do so many steps; return what came of them."""
    folder = out / f"model-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    canaries = Canaries(folder / "canaries")
    course = Course(folder, number, canaries, wants=steps, note=note)
    chance = random.Random(number)
    try:
        while course.steps < steps:
            at = chance.randrange(2**32)
            examples = -((course.steps - steps) // EACH)
            before = len(course.found)
            words = play(course, at, examples, shrinks=shrinks and not blob, blob=blob)
            for found in course.found[before:]:
                note(f"difference, seed {at}: {found}\n{words}")
                with (folder / "differences").open("a") as file:
                    file.write(f"seed {at}: {found}\n{words}\n")
            if blob:
                break
    finally:
        watched = len(canaries.all)
        canaries.close()
    return {
        "steps": course.steps, "examples": course.examples, "canaries": watched,
        "kinds": course.kinds, "found": course.found,
    }  # fmt: skip
