"""A long life of a keeper: a day of its clocks, and many ends; the keeper's own code, in here.

The cgroups, the processes, the state folder and the history are real; launches are those of
``scopekeeper.Cohort``, in another process. Only the clocks are handed in: see ``clock``.
"""

import asyncio
import gc
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scopekeeper.history.bounds import BOUNDS
from scopekeeper.history.store import HistoryStore
from scopekeeper.keeper.keeper import Keeper
from scopekeeper.keeper.notices import MemberEnded, Notice
from scopekeeper.kernel import malloc
from scopekeeper.scope.placement import Caller
from tests import folders
from tests.cgroup.conftest import home
from tests.machine import end_cgroup, eventually, is_alive

from . import sample
from .clock import Clock, Loop
from .held import held
from .launcher import Launcher
from .slope import slope

BATCH = 200
"""Members that live and end together."""
STEADY = 20
"""Members that live through all of it."""
BOUNDED = {"UnseenEnds._reported": 10_000, "Notes._paths": 4000}
"""What the keeper remembers of ends, and how much of it at most: the ids of those that it has
reported; the files in which stops have counted, by two keys each, of which a thousand are kept."""
_QUIET = 3700.0
"""Seconds after which nothing is on its way any more."""


class Day:
    """One keeper and its life."""

    def __init__(self, folder: Path, seed: int, batch: int, note: Callable[[str], None]) -> None:
        self.note, self.batch = note, batch
        self.clock, self.chance = Clock(), random.Random(seed)
        self.state = folder / "state"
        self.cgroup = f"{home().rstrip('/')}/day-{seed}"
        self.reasons: Counter[str] = Counter()
        self.ends = 0
        self.wrong: list[str] = []
        self.samples: list[dict[str, float]] = []
        (folder / "rules").mkdir()
        self.environment = {
            "SCOPEKEEPER_STATE": str(self.state),
            "SCOPEKEEPER_CONFIG": str(folder / "rules"),
            "SCOPEKEEPER_PLACEMENT": f"cgroup:{self.cgroup}",
        }

    def live(self, ends: int, hours: float) -> None:
        """Live so many hours, in which so many members end."""
        malloc.keep_little()  # as the keeper itself does
        os.mkdir(self.cgroup)
        before = dict(os.environ)
        os.environ.update(self.environment)
        self.launcher = Launcher({})
        try:
            with asyncio.Runner(loop_factory=self._loop) as runner, self.clock.everywhere():
                runner.run(self._live(ends, hours))
        finally:
            end_cgroup(self.cgroup)
            self.launcher.close()
            eventually(lambda: folders.remove(self.cgroup))
            os.environ.clear()
            os.environ.update(before)

    def _loop(self) -> Loop:
        self.loop = Loop(self.clock)
        return self.loop

    def _ask(self, **request: Any) -> list[int]:
        return self.launcher.ask(ahead=self.clock.ahead, **request)

    async def _live(self, ends: int, hours: float) -> None:
        steady = self._ask(start=STEADY, session="day:steady")
        self.keeper = Keeper(Caller(), self._report)
        self.keeper.start()
        gc.enable()
        gc.freeze()
        self.began = time.monotonic()
        pause = hours * 3600 / (ends / self.batch)
        number = 1
        try:
            for way in (0, 9):
                await self._batch(way, pause)
            await asyncio.sleep(60)
            self.first = self._held()
            while self.ends < ends:
                began = time.monotonic()
                await self._batch(number, pause)
                await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))
                if number % max(1, ends // self.batch // 300) == 0:
                    self._sample()
                number += 1
            self.quiet = await self._be_quiet()
            await self._age()
            dead = [pid for pid in steady if not is_alive(pid)]
            self.wrong += [f"innocent: {pid} was ended" for pid in dead]
        finally:
            self._ask(end=steady, signal=signal.SIGKILL)
            self._ask(wait=steady)
            await self.keeper.close()

    def _report(self, notice: Notice) -> None:
        if isinstance(notice, MemberEnded):
            self.reasons[notice.end.reason.value] += 1

    async def _batch(self, number: int, pause: float) -> None:
        """Start some, let them live, and end them in one of the ways."""
        way = number % 10
        session = "day:steady" if way < 3 else f"day:{number}"
        if way == 9:
            (owner,) = self._ask(start=1, session="day:owners")
            pids = self._ask(start=self.batch, session=session, owner=owner)
            await asyncio.sleep(pause / 3)
            self._ask(end=[owner], signal=signal.SIGKILL)  # and the keeper ends what it owned
            pids.append(owner)
        else:
            command = {"command": ["true"]} if way == 8 else {}
            pids = self._ask(start=self.batch, session=session, **command)
            await asyncio.sleep(pause / 3)
            if not command:
                number_ = self.chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
                self._ask(end=pids, signal=number_)
        for _ in range(1000):
            if all(not is_alive(pid) for pid in pids):
                break
            await asyncio.sleep(0.05)
        else:
            self.wrong.append(f"left: {sum(map(is_alive, pids))} of batch {number}")
            self._ask(end=pids, signal=signal.SIGKILL)
        self._ask(wait=pids)
        self.ends += len(pids)

    async def _be_quiet(self) -> dict[str, float]:
        """Return what is held, and the wake-ups of an hour, when nothing begins or ends."""
        await asyncio.sleep(_QUIET)
        before = self.loop.selector.wakes
        await asyncio.sleep(3600.0)
        wakes = self.loop.selector.wakes - before
        now = self._held()
        self.grown = {name: now[name] - self.first[name] for name in now if name not in BOUNDED}
        self.wrong += [
            f"left: {name} has {count} more" for name, count in self.grown.items() if count > 0
        ]
        self.wrong += [
            f"left: {name} has {now[name]}" for name, most in BOUNDED.items() if now[name] > most
        ]
        return {"wake-ups of a quiet hour": wakes, **self._sample()}

    def _held(self) -> Counter[str]:
        return held(self.keeper)

    async def _age(self) -> None:
        """Check the history; 91 days later one more end leaves only itself."""
        rows = HistoryStore(self.state).read()
        counted = sum(HistoryStore(self.state).totals().values())
        if counted < self.ends:  # one whose reason became known later counts twice
            self.wrong.append(f"lost: the history counts {counted} ends of {self.ends}")
        most = Counter(end.unit for end in rows).most_common(1)
        if len(rows) > BOUNDS.rows or (most and most[0][1] > BOUNDS.scope_rows):
            self.wrong.append(f"left: {len(rows)} rows, {most}")
        self.rows = len(rows)
        self.clock.forward(91 * 86_400)
        self._ask(wait=self._ask(start=1, session="day:last", command=["true"]))
        await asyncio.sleep(60.0)
        left = HistoryStore(self.state).read()
        if [end.session for end in left] != ["day:last"]:
            self.wrong.append(f"left: {len(left)} rows after 91 days")

    def _sample(self) -> dict[str, float]:
        found = {"at": time.monotonic() - self.began, "ends": float(self.ends)}
        found |= sample.of_process(os.getpid())
        del found["CPU"]
        entries = self._held()
        found["remembered of ends"] = float(sum(entries.pop(name, 0) for name in BOUNDED))
        found["entries held"] = float(sum(entries.values()))
        found["timers"] = float(self.loop.timers)
        found["wake-ups of an end"] = self.loop.selector.wakes / max(1, self.ends)
        found |= {name: value for name, value in sample.of_folders(self.state).items()
                  if not name.startswith("runs")}  # fmt: skip
        self.samples.append(found)
        if len(self.samples) % 3 == 1:
            self.note(str({name: round(value, 1) for name, value in found.items()}))
        return found


def live(
    folder: Path, *, ends: int, hours: float, seed: int, note: Callable[[str], None],
    batch: int = BATCH,
) -> dict[str, Any]:  # fmt: skip
    """Live it, and return what came out."""
    day = Day(folder, seed, batch, note)
    day.live(ends, hours)
    (folder / "samples.json").write_text(json.dumps(day.samples))
    settled = [each for each in day.samples if each["ends"] >= min(12_000, ends / 2)]
    lines = {
        name: slope([x["at"] for x in settled], [x[name] for x in settled], hours * 3600 / 100)
        for name in settled[0]
        if name not in ("at", "ends")
    }
    harms = Counter(words.partition(":")[0] for words in day.wrong)
    note(f"{dict(day.reasons)}; {day.rows} rows; quiet: {day.quiet}; {day.wrong}")
    return {
        "ends": ends,
        "hours": hours,
        "reasons": dict(day.reasons),
        "rows": day.rows,
        "quiet": day.quiet,
        "grown": {name: count for name, count in day.grown.items() if count},
        "wrong": day.wrong[:100],
        "harms": {name: harms.get(name, 0) for name in ("innocent", "lost", "left")},
        "slopes": {
            name: {"mean": each.mean, "per_hour": each.per_hour, "error": each.error,
                   "verdict": each.verdict}
            for name, each in lines.items()
        },
    }  # fmt: skip
