"""What is known of one run, kept in a folder of its own: who it is, and how it ended.

The folder is ``runs/ID`` in the state folder; its ``run.json`` is replaced whole. Beside it lies
what the run wrote (``scopekeeper.pty.log``).
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
from dataclasses import dataclass, field
from typing import Any

from scopekeeper import state
from scopekeeper.errors import ScopekeeperError, StateError, UsageError

FILE = "run.json"
_ID = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended; times in microseconds since the epoch."""

    at: int
    reason: str
    evidence: str = ""
    exit_status: int | None = None
    signal: int | None = None
    output: str = ""
    """The last that it wrote, as plain text."""

    @property
    def status(self) -> int | None:
        """The exit status as a shell has it: 128 and the signal's number; None if unknown."""
        return self.exit_status if self.signal is None else 128 + self.signal


@dataclass(frozen=True, slots=True)
class Run:
    """One command whose output the keeper records. Times are microseconds."""

    id: str
    session: str
    lane: str
    name: str
    argv: tuple[str, ...]
    started: int
    """Since the epoch."""
    boot_id: str
    tty: bool = True
    """Whether it has a terminal; else it has pipes."""
    cols: int = 80
    rows: int = 24
    session_id: str = ""
    lifetime: str = "session"
    born: int = 0
    """By CLOCK_BOOTTIME."""
    timeout: int | None = None
    no_output_timeout: int | None = None
    log_max: int = 8 << 20
    """Bytes of output that are kept at least; of more the oldest go."""
    directory: str = ""
    """Of its scope, once that is there."""
    leaf: str = ""
    joined: int = 0
    """When its member began, as the record of that has it; since the epoch."""
    pid: int | None = None
    start_time: int | None = None
    ended: Ended | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """What a newer version has written."""

    @property
    def folder(self) -> pathlib.Path:
        """Where it and its output are kept; raises StateError."""
        return folder() / self.id


def folder() -> pathlib.Path:
    """Return the folder of all runs, which may not be there; raises StateError."""
    return state.directory() / "runs"


def save(run: Run) -> None:
    """Write down what is known of a run; raises StateError."""
    try:
        state.make()
        run.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = run.folder / FILE
        temporary = path.with_name(f".{FILE}.{os.getpid()}")
        values = dataclasses.asdict(run)
        text = json.dumps({**values.pop("extra"), **values})
        # arguments can have bytes that are no UTF-8
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        raise StateError(f"cannot write {run.folder}: {error.strerror}") from None


def is_id(text: str) -> bool:
    """Tell whether a text can be the id of a run."""
    return _ID.fullmatch(text) is not None


def load(run_id: str) -> Run | None:
    """Read what is known of a run; None where there is none of that id, or it cannot be read."""
    try:
        text = (folder() / run_id / FILE).read_text(encoding="utf-8", errors="surrogateescape")
        return parse(json.loads(text))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def load_all() -> list[Run]:
    """Read all runs, the oldest first; raises StateError."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir(folder())
    found = [load(name) for name in names if _ID.fullmatch(name)]
    return sorted((run for run in found if run is not None), key=lambda run: run.started)


def find(wanted: str) -> Run:
    """Return the run that is meant by its id, or by the beginning of one; raises UsageError."""
    if _ID.fullmatch(wanted):
        run = load(wanted)
        if run is not None:
            return run
    found = [run for run in load_all() if wanted and run.id.startswith(wanted)]
    if not found:
        raise ScopekeeperError(f"there is no run {wanted!r}", "`scopekeeper ls` lists what runs")
    if len(found) > 1:
        words = ", ".join(run.id for run in found)
        raise UsageError(f"{wanted!r} can be {words}", "give more of the id")
    return found[0]


def parse(values: dict[str, Any]) -> Run:
    """Read a run from its plain values; raises KeyError, TypeError, ValueError."""
    if not _ID.fullmatch(str(values["id"])):
        raise ValueError(f"{values['id']!r} is no id of a run")
    known = {each.name for each in dataclasses.fields(Run)} - {"extra"}
    extra = {name: value for name, value in values.items() if name not in known}
    mine = {name: value for name, value in values.items() if name in known}
    mine["argv"] = tuple(mine["argv"])
    if mine.get("ended") is not None:
        mine["ended"] = Ended(**mine["ended"])
    return Run(**mine, extra=extra)
