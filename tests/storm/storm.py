"""The storm: sessions begin and end as fast as the machine can, beside one keeper and canaries."""

import itertools
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from tests import folders
from tests.machine import PROGRAM, ROOT, eventually
from tests.proof.canaries import Canaries
from tests.proof.world import World
from tests.systemd.installed import UNIT
from tests.systemd.manager import SLICE, main_pid

from . import sample
from .launcher import Launcher
from .life import Life
from .slope import BLOCK, slope

EVERY = 5.0
"""Seconds between samples."""
WORKERS = 4
HARMS = ("innocent", "lost", "left", "other")
_LOOKS = (("ls",), ("ls", "--members"), ("history", "--json"), ("reconcile",))
_ANSWERS = (0, 1, 5)


class Storm:
    """All of one seed."""

    def __init__(self, folder: Path, seed: int, note: Callable[[str], None]) -> None:
        self.folder, self.seed, self.note = folder, seed, note
        self.world = World(folder / "world", f"storm:{seed}")
        self.lives = folder / "lives"
        self.lives.mkdir()
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()
        self.ends = 0
        self.samples: list[dict[str, float]] = []
        self._numbers = itertools.count()
        self._over = threading.Event()
        self._lock = threading.Lock()

    def run(self, minutes: float, warm: float) -> dict[str, Any]:
        """Fill what is bounded, storm for so long, and look at what is left."""
        fill = [sys.executable, "-m", "tests.storm.fill"]
        subprocess.run(fill, env=self.world.environment, check=True)
        self.world.keeper()
        self.keeper = main_pid(UNIT)
        canaries = Canaries(self.folder / "canaries")
        try:
            self._warm(warm)
            self.note(f"storm begins; {json.dumps(self._sample(0.0))}")
            self.ends = 0
            self.done.clear()
            began = time.monotonic()
            self._storm(began, began + 60 * minutes, canaries)
            self._settle()
            self.wrong += canaries.complaints()
            count = len(canaries.all)
        finally:
            canaries.close()
            self._keep_log()
            self.world.close()
        return self._summary(minutes, count)

    # before it

    def _warm(self, seconds: float) -> None:
        """Let many begin and end, until the keeper has needed what it needs."""
        until = time.monotonic() + seconds

        def runs() -> None:
            argv = [PROGRAM, "exec", "-d", "-s", "warm:runs", "--", "echo", "building"]
            while time.monotonic() < until:
                subprocess.run(argv, env=self.world.environment, stdin=subprocess.DEVNULL,
                               capture_output=True)  # fmt: skip

        def members(worker: int) -> None:
            launcher = Launcher(self.world.environment)
            for number in itertools.count():
                if time.monotonic() > until:
                    break
                session = f"warm:{worker}:{number // 4}"
                pids = launcher.ask(start=50, session=session, command=["true"])
                launcher.ask(wait=pids)
            launcher.close()

        with ThreadPoolExecutor(4) as pool:
            wait([pool.submit(runs), pool.submit(runs), *(pool.submit(members, n) for n in (1, 2))])

    # the storm

    def _storm(self, began: float, until: float, canaries: Canaries) -> None:
        with ThreadPoolExecutor(WORKERS + 1) as pool:
            work = [pool.submit(self._work) for _ in range(WORKERS)]
            work.append(pool.submit(self._look))
            due = began
            while time.monotonic() < until:
                due += EVERY
                self._over.wait(max(0.0, due - time.monotonic()))
                self.samples.append(self._sample(time.monotonic() - began))
                if len(self.samples) % 12 == 0:
                    self.wrong += [x for x in canaries.complaints() if x not in self.wrong]
                    last = {name: round(value) for name, value in self.samples[-1].items()}
                    self.note(f"{last}, {len(self.wrong)} wrong")
            self._over.set()
            for each in work:
                each.result()

    def _work(self) -> None:
        while not self._over.is_set():
            with self._lock:
                number = next(self._numbers)
            found = Life(self.lives, self.seed, number, self.world.environment).live()
            with self._lock:
                self.done += found.done
                self.ends += sum(n for name, n in found.done.items() if name.startswith("member"))
                self.wrong += found.wrong
            for words in found.wrong:
                self.note(words)

    def _look(self) -> None:
        """Look at everything, now and then, as an operator and a timer do."""
        for command in itertools.cycle(_LOOKS):
            if self._over.wait(EVERY):
                return
            done = subprocess.run([PROGRAM, *command], env=self.world.environment,
                                  capture_output=True, text=True, timeout=120)  # fmt: skip
            if done.returncode not in _ANSWERS or "Traceback" in done.stderr:
                words = f"other: {command[0]} answered {done.returncode}: {done.stderr[-300:]}"
                self.wrong.append(words)
                self.note(words)

    def _sample(self, at: float) -> dict[str, float]:
        found = {"at": at, "ends": float(self.ends)}
        found |= sample.of_process(self.keeper)
        return found | sample.of_folders(self.world.state) | sample.of_manager()

    # after it

    def _settle(self) -> None:
        """Wait until nothing of it is left, and note what is."""
        try:
            eventually(lambda: not any(self._left().values()), 60, 1.0)
        except AssertionError:
            self.wrong += [f"left: {n:.0f} {name} after the storm"
                           for name, n in self._left().items() if n]  # fmt: skip
        if main_pid(UNIT) != self.keeper:
            self.wrong.append("other: the keeper was started again")

    def _left(self) -> dict[str, float]:
        """Return what is left of ours; the canary in our slice has a name of its own."""
        found = sample.of_manager()
        cgroups = [path for path in folders.below(SLICE) if "/scopekeeper-" in path]
        return {"units": found["units"], "cgroups": float(len(cgroups))}

    def _keep_log(self) -> None:
        mode = ["-u", UNIT] if ROOT else ["--user-unit", UNIT]
        done = subprocess.run(["journalctl", "--no-pager", "-n", "2000", "-o", "short-precise",
                               "-p", "warning", *mode], capture_output=True, text=True)  # fmt: skip
        (self.folder / "keeper.log").write_text(done.stdout)
        (self.folder / "samples.json").write_text(json.dumps(self.samples))

    def _summary(self, minutes: float, canaries: int) -> dict[str, Any]:
        harms = Counter(words.partition(":")[0] for words in self.wrong)
        return {
            "minutes": minutes,
            "ends": self.ends,
            "done": dict(self.done),
            "canaries": canaries,
            "harms": {name: harms.get(name, 0) for name in HARMS},
            "wrong": self.wrong[:100],
            "slopes": slopes(self.samples),
        }


def slopes(samples: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Return the slope of everything that was sampled; of the CPU, that of one end."""
    found = {}
    for name in samples[0]:
        if name in ("at", "ends", "CPU"):
            continue
        found[name] = slope([each["at"] for each in samples], [each[name] for each in samples])
    minutes = samples[:: round(BLOCK / EVERY)]
    pairs = [
        (after["at"], (after["CPU"] - before["CPU"]) / (after["ends"] - before["ends"]))
        for before, after in itertools.pairwise(minutes)
        if after["ends"] > before["ends"]
    ]
    found["CPU of an end, ms"] = slope([at for at, _ in pairs], [value for _, value in pairs])
    return {
        name: {"mean": each.mean, "per_hour": each.per_hour, "error": each.error,
               "verdict": each.verdict}
        for name, each in found.items()
    }  # fmt: skip
