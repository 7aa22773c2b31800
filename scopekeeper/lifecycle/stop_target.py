"""What a stop is about and what it proves: targets, their grace, and results. Pure."""

from collections.abc import Mapping

from scopekeeper.data import dataclass, field
from scopekeeper.lifecycle.escaped import Escaped
from scopekeeper.safe_text import safe
from scopekeeper.scope import names
from scopekeeper.scope.model import Owner
from scopekeeper.scope.selection import Selected

GRACE = 5.0
"""Seconds between SIGTERM and the kill, unless the stop or the launch sets another grace."""
LONGEST_GRACE = 600.0
"""The longest grace of a launch, since its members can write any into the record. A stop may ask
for more."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a stop was decided from: if the target has changed by then, it is not stopped."""

    owners: Mapping[str, Owner | None]
    """The owners of its members by leaf; None of a member with a damaged record."""
    strays: bool = False
    """Whether processes lived in the scope outside of every member."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to stop: a scope's directory, or that of one member's leaf in it."""

    directory: str
    cgroup: str
    """Its path below the mount point; '' if it was gone before the stop."""
    grace: float = GRACE
    """Seconds."""
    judged: Judged | None = field(default=None, compare=False)
    """What must still be true of it; None if it was named, whatever lives in it."""

    @property
    def is_member(self) -> bool:
        """Whether the target is one member of a scope."""
        return names.parse_leaf(self.directory.rpartition("/")[2]) is not None

    @property
    def leaf(self) -> str:
        """The name of the leaf if it is one member, else ''."""
        return self.directory.rpartition("/")[2] if self.is_member else ""

    @property
    def scope_directory(self) -> str:
        """The directory of the scope, also if the target is a member."""
        return self.directory.rpartition("/")[0] if self.is_member else self.directory

    @property
    def unit(self) -> str:
        """The name of the scope."""
        return self.scope_directory.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Remaining:
    """A process that did not die, and where it waits in the kernel."""

    pid: int
    state: str
    wchan: str
    command: str


@dataclass(slots=True)
class Result:
    """What was proved of one target."""

    target: Target
    outcome: str = "empty"
    """One of empty (nothing lived in it), changed (something else lives in it now), terminated,
    killed, remains, refused."""
    terminated: int = 0
    """Processes that were sent SIGTERM."""
    killed: int = 0
    """Processes that were left after the grace and were killed, by this stop or by another one of
    the same target."""
    milliseconds: float = 0.0
    remaining: tuple[Remaining, ...] = ()
    problem: str = ""
    escaped: tuple[Escaped, ...] = ()
    """Processes that had left it, and live on."""
    ended_escaped: tuple[tuple[Escaped, str], ...] = ()
    """Processes that had left it and were ended, each with ``terminated`` or ``killed``."""
    unread: int = 0
    """Cgroups in it that could not be read: no process in them got SIGTERM."""
    processes: int = 0
    """Processes that lived in it when the stop began, or were started in it until it was over; also
    those that another stop of the same target had found. The history has the same number."""

    def __str__(self) -> str:
        """Return one line: the scope, the member, and what became of it."""
        name = self.target.unit + (f": {self.target.leaf}" if self.target.leaf else "")
        text = f"{name}: {self.words}"
        if self.ended_escaped:
            text += f"; {_processes(len(self.ended_escaped))} that had left it ended"
        if self.escaped:
            lives = "lives" if len(self.escaped) == 1 else "live"
            text += f"; {_processes(len(self.escaped))} that had left it {lives} on"
        return safe(text)

    @property
    def words(self) -> str:
        """What became of it, without its name."""
        after = f"{self.milliseconds:.0f} ms"
        if self.outcome == "refused":
            return f"skipped: {self.problem}"
        if self.outcome == "changed":
            return f"left alone: {self.problem}"
        if self.outcome == "terminated" and not self.terminated:
            return f"gone after {after}; {_processes(self.processes)} ended before the signal"
        if self.outcome in ("terminated", "killed"):
            text = f"gone after {after}; {_processes(self.processes)} terminated"
            if self.outcome == "terminated":
                return text
            more = " and all unreadable ones" if self.unread else ""
            return f"{text}, {self.killed} of them{more} killed"
        if self.outcome == "remains":
            return f"{_processes(len(self.remaining))} cannot be killed after {after}"
        return "was already empty"


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def target_of(selected: Selected, grace: float | None = None, *, as_judged: bool = False) -> Target:
    """Return the target for a selection; grace in seconds overrides the launch's own.

    With as_judged, it is stopped only if no other member lives in it by then and each has the owner
    that is known here: the stop was decided from the owners, and an adoption can come between.
    """
    scope, member = selected.scope, selected.member
    if grace is None:
        grace = grace_of(scope.grace)
    judged = None
    if as_judged:
        members = scope.members if member is None else (member,)
        judged = Judged(
            {m.leaf: m.owner_state.owner if m.owner_state else None for m in members},
            bool(scope.strays),
        )
    where = member or scope
    return Target(where.directory, where.cgroup, grace, judged)


def grace_of(microseconds: int | None) -> float:
    """Return a grace in seconds from a record's value."""
    if microseconds is None:
        return GRACE
    return min(max(microseconds / 1e6, 0.0), LONGEST_GRACE)
