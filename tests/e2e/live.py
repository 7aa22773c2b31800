"""What only a gateway that is contained can show: runs that go on, and how they end."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.machine import PROGRAM, eventually
from tests.viewer import Viewer

from . import census
from .containing import Containing
from .openclaw import OpenClaw
from .scenario import MAIN, WORK, Column, exec_step

RULES = """
[lanes.default]
session_grace = "1s"
"""


@dataclass(slots=True)
class Live:
    """What was seen of the contained gateway while it ran."""

    status: dict[str, Any]
    """of ``openclaw status``, at the end of the script"""
    run: str
    """the id of the run that was started through ``scopekeeper exec``"""
    listed: list[dict[str, Any]] = field(default_factory=list)
    """what ``ls`` has of the session after both restarts"""
    screen: str = ""
    """what somebody sees who attaches to the run then"""
    worker_session: str = ""
    """of OpenClaw's own worker after both restarts"""
    ended: list[dict[str, Any]] = field(default_factory=list)
    """the history of the session once its policy was to end it"""
    left: list[str] = field(default_factory=list)
    """workers that lived then"""
    folder: list[bool] = field(default_factory=list)
    """whether the folder was there that a process was handed: after the restarts, after its end"""


def look_at_live(claw: OpenClaw, containing: Containing, steps: Iterator[Column]) -> Live:
    """Have a run started, play the rest, and look."""
    live = Live(containing.json("openclaw", "status"), _start_run(claw))
    next(steps)
    folder = claw.home / "configuration-of-a-backend"
    _start_owner(claw, folder)
    for _ in steps:
        pass
    live.listed = containing.json("ls", "--session", MAIN, "--members")["scopes"]
    live.screen = _attach(live.run)
    workers = census.take().of("worker", "terminal")
    live.worker_session = workers[0].session if workers else ""
    live.folder.append(folder.exists())
    containing.rule(RULES)
    containing.call("reconcile")
    deadline = time.monotonic() + 20
    while (found := census.take().of("worker")) and time.monotonic() < deadline:
        time.sleep(0.1)
    live.left = [each.name for each in found]
    containing.call("reconcile")  # what was owned goes with the stop, or now
    live.folder.append(folder.exists())
    live.ended = containing.json("history", "--session", MAIN)["ends"]
    return live


def _start_run(claw: OpenClaw) -> str:
    """Have the gateway's own tool start a run; return its id."""
    command = f"E2E_WORKER=run {PROGRAM} exec -d -s {MAIN} -- bash -c '{WORK}'"
    answers = claw.turn(MAIN, f'call: exec {{"command": "{command}"}}')
    eventually(lambda: census.take().of("worker", "run"))
    found = re.search(r"\b[0-9a-f]{8}\b", "".join(answers))
    assert found, answers
    return found[0]


def _start_owner(claw: OpenClaw, folder: Path) -> None:
    """Have the gateway start what a backend is: a process with its configuration in a folder."""
    folder.mkdir()
    worker = f"bash -c '{WORK}' backend --mcp-config {folder}/mcp.json"
    run = f"{PROGRAM} run -s {MAIN} --lifetime session --own {folder} -- {worker}"
    claw.turn(MAIN, exec_step(f"E2E_WORKER=backend exec {run}"))
    eventually(lambda: census.take().of("worker", "backend"))


def _attach(run: str) -> str:
    """Attach to a run, and return what is on the screen."""
    viewer = Viewer([PROGRAM, "attach", "--read-only", run])
    try:
        return eventually(lambda: "\n".join(viewer.picture()).strip(), 10)
    except AssertionError:
        return ""
    finally:
        viewer.close()
