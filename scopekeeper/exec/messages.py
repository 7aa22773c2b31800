"""Reads the messages about runs: each field has a type and a range. Pure.

An invalid message raises ProtocolError and nothing else. Unknown fields are ignored, since a newer
version may send them.
"""

import contextlib
import reprlib

from scopekeeper.data import dataclass, replace
from scopekeeper.data import values as values_of
from scopekeeper.errors import ScopekeeperError
from scopekeeper.exec import protocol, run
from scopekeeper.exec.protocol import ProtocolError
from scopekeeper.exec.run import Ended, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

MOST_CELLS = 0xFFFF
"""Columns or rows of a window: an unsigned short (struct winsize)."""
_MOST_NUMBER = (1 << 63) - 1
_MOST_PID = 1 << 22
"""PID_MAX_LIMIT of the kernel."""
_MOST_SECONDS = 10 * 366 * 86400.0
_MOST_NAME, _MOST_TEXT = 1 << 10, 1 << 16
_LIFETIMES = ("gateway", "session", "detached")


# Requests of a client


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold the descriptors of a run that is about to start."""

    run: Run


@dataclass(frozen=True, slots=True)
class Started:
    """The process that is about to become a run's command; start in clock ticks since boot."""

    run: str
    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The command of a run was not started."""

    run: str
    status: int


@dataclass(frozen=True, slots=True)
class Attach:
    """Send the output of a run from a position on, below zero from its end on."""

    run: str
    position: int
    cols: int
    rows: int
    read_only: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Send input to a run, which has so many seconds to take it."""

    run: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Report how a run ends."""

    run: str


@dataclass(frozen=True, slots=True)
class List:
    """Report the ids of the runs that are held."""


@dataclass(frozen=True, slots=True)
class Other:
    """A request that this version does not know."""

    what: str


Request: "TypeAlias" = Hold | Started | Failed | Attach | Send | Wait | List | Other


def request(payload: bytes) -> Request:
    """Read a client's request; raises ProtocolError."""
    fields = _Fields(protocol.parse(payload))
    what = fields.text("do", _MOST_NAME)
    if what == "list":
        return List()
    if what == "hold":
        return Hold(_new_run(fields.values.get("run")))
    if what not in ("started", "failed", "attach", "send", "wait"):
        return Other(what)
    run_id = fields.text("run", _MOST_NAME)
    if not run.is_id(run_id):
        raise ProtocolError(f"{_short(run_id)} is no id of a run")
    if what == "started":
        start = fields.whole("start", 0, _MOST_NUMBER)
        return Started(run_id, fields.whole("pid", 1, _MOST_PID), start)
    if what == "failed":
        return Failed(run_id, fields.whole("status", 0, 255))
    if what == "send":
        return Send(run_id, fields.seconds("seconds", default=5.0))
    if what == "wait":
        return Wait(run_id)
    return Attach(
        run_id,
        fields.whole("from", -1, _MOST_NUMBER),
        fields.whole("cols", 0, MOST_CELLS, default=0),
        fields.whole("rows", 0, MOST_CELLS, default=0),
        fields.flag("read_only"),
    )


def resize(payload: bytes) -> tuple[int, int]:
    """Read the new columns and rows of a client's window; raises ProtocolError."""
    size = protocol.parse(payload).get("resize")
    if not isinstance(size, list) or len(size) != 2:
        raise ProtocolError(f"resize is {_short(size)}, not columns and rows")
    fields = _Fields(dict(zip(("columns", "rows"), size, strict=True)))
    return fields.whole("columns", 0, MOST_CELLS), fields.whole("rows", 0, MOST_CELLS)


def _new_run(values: object) -> Run:
    """Read a run that is about to start: a client does not set its scope, process or end."""
    try:
        known = run.parse(values)
    except ValueError as error:
        raise ProtocolError(f"the run cannot be read: {_cut(str(error))}") from None
    fields = _Fields(values_of(known))
    fields.whole("cols", 1, MOST_CELLS)
    fields.whole("rows", 1, MOST_CELLS)
    fields.whole("log_max", 1, _MOST_NUMBER)
    if known.lifetime not in _LIFETIMES:
        raise ProtocolError(f"lifetime is {_short(known.lifetime)}")
    return replace(known, directory="", leaf="", joined=0, pid=None, start_time=None, ended=None)


# Answers of the keeper


@dataclass(frozen=True, slots=True)
class Attached:
    """Where the output that follows begins, and the window; lost means that it has no terminal."""

    position: int
    lost: bool
    cols: int
    rows: int


@dataclass(frozen=True, slots=True)
class News:
    """News about a run that a client is attached to."""

    over: bool = False
    """Whether the run has ended."""
    ended: Ended | None = None
    missed: int = 0
    """Bytes of output that are missing from the log."""


def attached(values: "dict[str, Any]") -> Attached:
    """Read the answer to ``attach``; raises ProtocolError."""
    fields, known = _Fields(values), _Fields(values.get("run"))
    return Attached(
        fields.whole("from", 0, _MOST_NUMBER),
        fields.flag("lost"),
        known.whole("cols", 0, MOST_CELLS),  # a command can set its window to no size
        known.whole("rows", 0, MOST_CELLS),
    )


def is_lost(values: "dict[str, Any]") -> bool:
    """Read from the answer to ``wait`` whether the run's terminal is lost; raises ProtocolError."""
    return _Fields(values).flag("lost")


def lost_words(run_id: str) -> str:
    """Return the words about a run that continues without its terminal."""
    return (
        f"the keeper of {run_id} has ended, and its terminal with it: no more output comes; "
        "waiting for its end"
    )


def goes_on(run_id: str) -> str:
    """Return the words about a run that continues when its client is interrupted."""
    return f"{run_id} continues; `scopekeeper attach {run_id}` again, or `stop {run_id}` ends it"


def news(values: "dict[str, Any]") -> News:
    """Read a message between output; raises ProtocolError, or the error that it reports."""
    raise_problem(values)
    if "ended" in values:
        return News(over=True, ended=end(values))
    return News(missed=_Fields(values).whole("missed", 0, _MOST_NUMBER, default=0))


def taken(values: "dict[str, Any]") -> int:
    """Read how many bytes of input a run took; raises ProtocolError."""
    return _Fields(values).whole("bytes", 0, _MOST_NUMBER)


def end(values: object) -> Ended | None:
    """Read how a run ended; None if it is not known, or this version cannot read it."""
    ended = values.get("ended") if isinstance(values, dict) else None
    if ended is not None:
        with contextlib.suppress(ValueError):
            return run.parse_end(ended)
    return None


def raise_problem(values: "dict[str, Any]") -> None:
    """Raise the ScopekeeperError that an answer reports, if any; or ProtocolError."""
    if "problem" in values:
        fields = _Fields(values)
        problem = fields.text("problem", _MOST_TEXT)
        raise ScopekeeperError(problem, fields.text("hint", _MOST_TEXT, default=""))


# Fields


class _Fields:
    """Reads the fields of an object, checking type and range; raises ProtocolError."""

    def __init__(self, values: object) -> None:
        if not isinstance(values, dict):
            raise ProtocolError(f"{_short(values)} is no object")
        self.values = values

    def text(self, name: str, most: int, *, default: str | None = None) -> str:
        """Return a text of at most so many characters."""
        value = self.values.get(name, default)
        if not isinstance(value, str) or len(value) > most:
            raise ProtocolError(f"{name} is {_short(value)}, not a text up to {most} characters")
        return value

    def whole(self, name: str, least: int, most: int, *, default: int | None = None) -> int:
        """Return a whole number of this range."""
        value = self.values.get(name, default)
        if type(value) is not int or not least <= value <= most:
            what = f"not a whole number from {least} to {most}"
            raise ProtocolError(f"{name} is {_short(value)}, {what}")
        return value

    def seconds(self, name: str, *, default: float) -> float:
        """Return a number of seconds, more than 0."""
        value = self.values.get(name, default)
        if type(value) not in (int, float) or not 0 < value <= _MOST_SECONDS:
            raise ProtocolError(f"{name} is {_short(value)}, not a number of seconds")
        return float(value)

    def flag(self, name: str) -> bool:
        """Return a flag, false if it is missing."""
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise ProtocolError(f"{name} is {_short(value)}, not true or false")
        return value


def _short(value: object) -> str:
    return _cut(reprlib.repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"
