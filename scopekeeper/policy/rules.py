"""The rules that a lane can have, and how files are put together to them. Pure.

A file has a table for each lane class, and one for all of them::

    escaped = "report"          # or "stop": processes that left their scope

    [lanes.default]
    orphan_grace = "30s"        # how long a member is kept after its gateway has ended

    [lanes.cron]
    ttl = "2h"
    supersede = true            # a new run of the same session ends the one before

What a lane's own table says goes before ``default``; of several files, the last that says it.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from scopekeeper import quantities
from scopekeeper.errors import ScopekeeperError
from scopekeeper.launch.request import LIFETIMES
from scopekeeper.names import EPHEMERAL_LANES

DEFAULT = "default"
BUILT_IN = "built in"
FOREVER = -1
"""A duration without an end, in microseconds."""

Value = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one lane. Durations are microseconds; None means: not set."""

    lifetime: str | None = None
    """Of launches that do not say; else by their kind."""
    ephemeral: bool = False
    """Whether the lane lives for one run: the session id is then part of the scope's name."""
    orphans: str = "stop"
    orphan_grace: int = 0
    """How long a member of lifetime gateway is kept after its owner has ended."""
    session_grace: int = 86_400_000_000
    """The same for lifetime session: the time in which another gateway can adopt it."""
    on_leader_exit: str = "linger"
    leader_grace: int = 10_000_000
    ttl: int | None = None
    grace: int | None = None
    timeout: int | None = None
    """How long a run of ``exec`` may take."""
    no_output_timeout: int | None = None
    """How long it may write nothing; neither holds for lifetime detached."""
    replace: bool = False
    """Whether a launch ends the member of the same session, lane and name that was before it."""
    supersede: bool = False
    """Whether the first launch of a run ends the other runs of its session and lane."""
    idle: int | None = None
    max_scopes: int | None = None
    when_full: str = "refuse"
    memory_max: str | None = None
    memory_high: str | None = None
    tasks_max: str | None = None
    cpu_weight: str | None = None
    member_memory_max: str | None = None
    member_tasks_max: str | None = None


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "lifetime": LIFETIMES,
    "orphans": ("stop", "report"),
    "on_leader_exit": ("stop", "linger"),
    "when_full": ("refuse", "stop-orphan"),
    "escaped": ("report", "stop"),
}
_DURATIONS = (
    "orphan_grace", "session_grace", "leader_grace", "ttl", "grace", "timeout",
    "no_output_timeout", "idle",
)  # fmt: skip
_ENDLESS = ("session_grace", "orphan_grace", "ttl", "timeout", "no_output_timeout", "idle")
"""Durations that may be ``infinity``."""
_FLAGS = ("ephemeral", "replace", "supersede")
_KEYS = tuple(each.name for each in fields(Rules))


class PolicyError(ScopekeeperError):
    """A file that cannot be meant; says which, and in which line."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, and which file and line said so."""

    value: Value
    source: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of every lane class, and what holds for all."""

    lanes: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    """By lane class, what the files say, later files last."""
    general: Mapping[str, Setting] = field(default_factory=dict)

    def settings(self, lane_class: str) -> dict[str, Setting]:
        """Return every rule of a lane class with its source."""
        said = _built_in(lane_class)
        for table in (DEFAULT, lane_class):
            said |= self.lanes.get(table, {})
        return {key: said[key] for key in _KEYS}

    def rules(self, lane_class: str) -> Rules:
        """Return the rules of a lane class."""
        said = self.settings(lane_class)
        return Rules(**{key: setting.value for key, setting in said.items()})  # type: ignore[arg-type]

    @property
    def counts_idle(self) -> bool:
        """Whether any lane ends scopes that do nothing."""
        return any(
            table["idle"].value is not None for table in self.lanes.values() if "idle" in table
        )

    @property
    def stops_escaped(self) -> bool:
        """Whether a process that left its scope is ended, and not only reported."""
        return "escaped" in self.general and self.general["escaped"].value == "stop"


def _built_in(lane_class: str) -> dict[str, Setting]:
    said = {each.name: Setting(each.default, BUILT_IN) for each in fields(Rules)}  # type: ignore[arg-type]
    if lane_class in EPHEMERAL_LANES:
        said["ephemeral"] = Setting(value=True, source=BUILT_IN)
    return said


def parse(texts: Sequence[tuple[str, str]]) -> Policy:
    """Put files together, each a path and its text, later ones last; raises PolicyError."""
    lanes: dict[str, dict[str, Setting]] = {}
    general: dict[str, Setting] = {}
    for path, text in texts:
        for table, key, value in _entries(path, text):
            source = f"{path}:{_line_of(text, table, key)}"
            try:
                setting = Setting(_checked(key, value, in_lane=bool(table)), source)
            except ValueError as error:
                raise PolicyError(f"{source}: {str(error).removeprefix('--')}") from None
            (lanes.setdefault(table, {}) if table else general)[key] = setting
    return Policy(lanes, general)


def _entries(path: str, text: str) -> list[tuple[str, str, object]]:
    """Return the table ('' for the top), key and value of everything that a file says."""
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise PolicyError(f"{path}: it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or a number that is none for int()
        place = re.search(r"at line (\d+)", str(error))
        number = place[1] if place else text.count("\n") + 1
        what = re.sub(r" \(at .*\)$", "", str(error))
        raise PolicyError(f"{path}:{number}: {what}") from None
    found: list[tuple[str, str, object]] = []
    lanes = document.pop("lanes", {})
    if not isinstance(lanes, dict):
        raise PolicyError(f"{path}:{_line_of(text, '', 'lanes')}: write [lanes.NAME]")
    for name, table in lanes.items():
        if not isinstance(table, dict):
            line = _line_of(text, "", name)
            raise PolicyError(f"{path}:{line}: {name} is in no lane's table; write [lanes.NAME]")
        if not name or ":" in name:
            line = _line_of(text, name, "")
            raise PolicyError(f"{path}:{line}: {name!r} is no lane class; a lane's class ends at :")
        found += [(name, key, value) for key, value in table.items()]
    return [("", key, value) for key, value in document.items()] + found


def _line_of(text: str, table: str, key: str) -> int:
    """Return the line in which a key of a table stands, else that of the table."""
    current, last = "", 1
    dotted = rf"\s*lanes\s*\.\s*{re.escape(table)}\s*\.\s*{re.escape(key)}\s*="
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^]]*?)\s*\]", line)
        if header:
            current = re.sub(r"""["'\s]""", "", header[1]).removeprefix("lanes").lstrip(".")
            last = number if current == table else last
            continue
        here = rf"""\s*["']?{re.escape(key)}["']?\s*=""" if current == table else dotted
        if re.match(here, line):
            return number
    return last


def _checked(key: str, value: object, *, in_lane: bool) -> Value:
    """Return a value as Rules has it; raises ValueError with one sentence."""
    known = _KEYS if in_lane else ("escaped",)
    if key not in known:
        hint = f"; put it under [lanes.{DEFAULT}] or a lane's own table" if key in _KEYS else ""
        raise ValueError(f"unknown setting {key}{hint}")
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise ValueError(f"{key} is true or false")
        return value
    if key == "max_scopes":
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
            raise ValueError("max_scopes is a whole number above zero")
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{key} is a text in quotes")  # noqa: TRY004  all are wrong values
    text = str(value)
    if key in _CHOICES:
        if text not in _CHOICES[key]:
            raise ValueError(f"{key} is {' or '.join(map(repr, _CHOICES[key]))}, not {text!r}")
        return text
    if key in _DURATIONS:
        if text == "infinity" and key in _ENDLESS:
            return FOREVER if key.endswith("grace") else None
        return quantities.duration(key, text)
    quantities.limit(key, text)
    return text
