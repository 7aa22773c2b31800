"""The script that is played twice, without scopekeeper and with it, and what was seen."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.machine import eventually

from . import census
from .census import Process
from .openclaw import NAMES, OpenClaw
from .packages import numbers
from .seen import Seen, look

MAIN, SPARK = "agent:main:main", "agent:spark:main"
SEND = f'call: sessions_send {{"sessionKey": "{SPARK}", "message": "hello"}}'
SPAWN = 'call: sessions_spawn {"task": "be there"}'
WORK = "trap : HUP; echo at work; while :; do sleep 1; done"
"""What a worker does that does not end when its terminal is hung up."""
SETTLE_S = 40.0
"""A server that does not see its input end is killed after four seconds, on an idle machine."""
EPOCH_S = 5.0
"""Within which nothing of an old gateway may be left once a new one was started."""
Step = tuple[str, Callable[[OpenClaw], object]]
STEPS: tuple[Step, ...] = (
    ("one main turn", lambda claw: claw.turn(MAIN, "call: stub__ping {}")),
    *((f"sessions_send {n}", lambda claw: claw.turn(MAIN, SEND)) for n in (1, 2, 3)),
    *((f"isolated cron run {n}", lambda claw: claw.cron_run()) for n in (1, 2, 3)),
    *((f"isolated heartbeat {n}", lambda claw: claw.heartbeat()) for n in (1, 2)),
    ("a subagent run", lambda claw: claw.turn(MAIN, SPAWN)),
)
# live cohorts, and helpers that outlived their server
LEAKS = {
    "2026.4.15": [(n, 0) for n in (1, 2, 2, 2, 3, 4, 5, 6, 7, 8)],
    "2026.9.6": [(1, 0), *[(2, 0)] * 3, *((2, n) for n in range(1, 7))],
}
NO_LEAKS = [(1, 0), *[(2, 0)] * 9]


def leaks_of(version: str) -> list[tuple[int, int]]:
    """Return what a version leaks; of one that is not known, what the known one before it does."""
    known = sorted(LEAKS, key=numbers)
    before = [each for each in known if numbers(each) <= numbers(version)]
    return LEAKS[[*known[:1], *before][-1]]


@dataclass(slots=True)
class Restart:
    """What a new gateway found."""

    old: int
    """servers and helpers that the old one had started"""
    left: list[Process]
    """of those, what lived five seconds after the new one's start"""
    workers: list[str]
    """the workers that lived then"""


@dataclass(slots=True)
class Column:
    """What was seen in one play."""

    counts: list[tuple[int, int]] = field(default_factory=list)
    sessions: list[list[str]] = field(default_factory=list)
    servers: dict[str, Seen] = field(default_factory=dict)
    pings: list[str] = field(default_factory=list)
    restarts: dict[str, Restart] = field(default_factory=dict)


def settled(expected: tuple[int, int]) -> census.Census:
    """Wait until the count is as expected, or for long enough to know that it is not."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        taken = census.take()
        if taken.count == expected or time.monotonic() > deadline:
            return taken
        time.sleep(0.1)


def play(claw: OpenClaw, expected: list[tuple[int, int]]) -> Iterator[Column]:
    """Play the script on a gateway that is ready; yields before each end of it, and at last."""
    column = Column()
    for (_, do), count in zip(STEPS, expected, strict=True):
        answers = do(claw)
        taken = settled(count)
        column.counts.append(taken.count)
        column.sessions.append(taken.sessions)
        if not column.servers:
            column.servers = {name: look(taken.of("server", name)[0].pid) for name in NAMES}
            column.pings += _pong(answers)
    column.pings += _pong(claw.turn(MAIN, "call: stub__ping {}"))
    _start_worker(claw)
    yield column
    column.restarts["restart"] = _restart(claw, claw.restart)
    claw.wait_until_ready()
    claw.turn(MAIN, "call: stub__ping {}")
    if not census.take().of("worker", "terminal"):
        _start_worker(claw)
    yield column
    column.restarts["SIGKILL"] = _restart(claw, lambda: os.kill(claw.pid, signal.SIGKILL))
    claw.wait_until_ready()
    column.pings += _pong(claw.turn(MAIN, "call: stub__ping {}"))
    yield column


def _start_worker(claw: OpenClaw) -> None:
    claw.turn(MAIN, exec_step(f"E2E_WORKER=terminal exec bash -c '{WORK}'"))
    eventually(lambda: census.take().of("worker", "terminal"))


def exec_step(command: str) -> str:
    """Return the step that has the gateway's own tool start a command at a terminal."""
    escaped = command.replace('"', '\\"')
    return f'call: exec {{"command": "{escaped}", "pty": true, "background": true}}'


def _pong(answers: Any) -> list[str]:
    """Return which process answered a ping, '' where none did."""
    text = "".join(answers)
    return [text.partition("pong from ")[2].split('"')[0].split("\n")[0]]


def _restart(claw: OpenClaw, act: Callable[[], object]) -> Restart:
    taken = census.take()
    old = [*taken.of("server"), *taken.of("helper")]
    before = claw.epoch
    act()
    eventually(lambda: claw.pid and claw.epoch != before, pause=0.02)
    deadline = time.monotonic() + EPOCH_S
    while (left := [each for each in old if each.lives]) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = sorted(each.name for each in census.take().of("worker"))
    return Restart(len(old), left, workers)


def table(version: str, played: dict[str, Column]) -> list[str]:
    """Return the lines of both columns side by side, whatever of them was played."""
    columns = {name: played.get(name, Column()) for name in ("without", "with")}
    lines = [f"OpenClaw {version}: live cohorts (+ helpers that outlived their server)"]
    row = "  {:24} {:>12} {:>12}"
    lines.append(row.format("", *columns))
    for number, (label, _) in enumerate(STEPS):
        cells = [_cell(column.counts[number : number + 1]) for column in columns.values()]
        lines.append(row.format(label, *cells))
    for what in ("restart", "SIGKILL"):
        found = [column.restarts.get(what) for column in columns.values()]
        left = [str(len(each.left)) if each else "-" for each in found]
        lines.append(row.format(f"{what}: of the old one left", *left))
        lives = [("lives" if "terminal" in each.workers else "lost") if each else "-"
                 for each in found]  # fmt: skip
        lines.append(row.format(f"{what}: PTY worker", *lives))
    return lines


def _cell(counts: list[tuple[int, int]]) -> str:
    if not counts:
        return "-"
    cohorts, orphans = counts[0]
    return f"{cohorts} + {orphans}" if orphans else f"{cohorts}"
