"""Watch one machine from its boot to its end: what virtual machines and containers share."""

import codecs
import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .host import CancelledError, Note, tail
from .payload import Work
from .rundir import Run

Event = Mapping[str, Any]
POLL_S = 0.1
POWEROFF_LIMIT_S = 600.0
# The guest's own limit ends a job first; the host's is for a guest that no longer answers.
JOB_MARGIN_S = 300.0


class Machine(Protocol):
    """A way to boot an image."""

    @property
    def boot_limit(self) -> float:
        """Seconds within which the guest must have reported its boot."""

    def start(self) -> subprocess.Popen[bytes]:
        """Boot, or boot again after a reboot the process itself does not survive."""

    def wants_another_boot(self, returncode: int) -> bool:
        """Whether the process ended because the guest reboots."""

    def trouble(self) -> str | None:
        """Why waiting is pointless, if it is."""

    def finish(self) -> None:
        """Bring the guest's files out and leave nothing running."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told what, while a machine runs (always from the thread that runs it)."""

    note: Note
    log: Callable[[str], None]
    event: Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the jobs' exit statuses, and ``reason`` when some have none."""

    folder: Path
    statuses: Mapping[str, int]
    reason: str | None
    seconds: float
    booted: bool = True


@dataclass(slots=True)
class Follower:
    """Reads what was added to a file since the last time."""

    path: Path
    position: int = 0

    def more(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                data = file.read()
        except FileNotFoundError:
            return b""
        self.position += len(data)
        return data


@dataclass(slots=True)
class Progress:
    """What the guest has told so far."""

    work: Work
    watch: Watch
    deadline: float
    statuses: dict[str, int] = field(default_factory=dict)
    booted: bool = False
    ended: bool = False
    waiting_for: str = "the boot"
    rest: bytes = b""

    def take(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if not line:
                continue
            try:
                event = json.loads(line)
            except ValueError:  # the rest of a line that a power cut ended
                self.watch.note(f"unreadable event: {line!r}")
                continue
            self._note(event)
            self.watch.event(event)

    def _note(self, event: Event) -> None:
        now = time.monotonic()
        match event["event"]:
            case "boot":
                self.booted = True
                self.waiting_for = "the jobs' end"
                left = len(self.work.jobs) - len(self.statuses)
                self.deadline = now + left * (self.work.limit + JOB_MARGIN_S) + POWEROFF_LIMIT_S
            case "exit":
                self.statuses[event["job"]] = event["status"]
            case "end":
                self.ended = True
                self.waiting_for = "the machine to power off"
                self.deadline = now + POWEROFF_LIMIT_S


def attend(machine: Machine, run: Run, work: Work, watch: Watch, stop: threading.Event) -> Outcome:
    """Boot ``machine``, pass on what it says, and return when it is gone.

    Setting ``stop`` raises CancelledError, the machine gone.
    """
    started = time.monotonic()
    progress = Progress(work, watch, started + machine.boot_limit)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    log, events = Follower(run.log), Follower(run.events)

    def read() -> None:
        if text := decoder.decode(log.more()):
            watch.log(text)
        progress.take(events.more())

    reason: str | None = None
    try:
        process = machine.start()
        try:
            while True:
                ended = process.poll() is not None
                read()
                if ended:
                    if not machine.wants_another_boot(process.returncode) or progress.ended:
                        break
                    process = machine.start()
                if stop.wait(POLL_S):
                    raise CancelledError
                reason = machine.trouble()
                if reason is None and time.monotonic() > progress.deadline:
                    reason = f"waited too long for {progress.waiting_for}"
                if reason is not None:
                    break
        finally:
            process.kill()
            process.wait()
    finally:
        machine.finish()
    read()
    seconds = time.monotonic() - started
    if len(progress.statuses) == len(work.jobs):
        return Outcome(run.folder, progress.statuses, None, seconds)
    reason = reason or f"the machine ended (status {process.returncode}) before its jobs did"
    words = _with_logs(reason, run)
    return Outcome(run.folder, progress.statuses, words, seconds, progress.booted)


def _with_logs(reason: str, run: Run) -> str:
    logs = [(path, tail(path, 15)) for path in (run.host_log, run.console)]
    return reason + "".join(f"\n--- end of {path}\n{text}" for path, text in logs if text)
