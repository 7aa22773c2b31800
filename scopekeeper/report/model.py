"""What a page is about. All times are seconds since the epoch; None means unknown. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo

from scopekeeper.scope.reason import Reason

RUNNING = "running"
"""In place of a reason: it has not ended."""
REASONS = (
    *(RUNNING, Reason.EXITED.value, Reason.CONTINUED.value),
    *(Reason.STOPPED.value, Reason.SUPERSEDED.value, Reason.OWNER_GONE.value),
    *(Reason.LEADER_EXITED.value, Reason.ABANDONED.value, Reason.ESCAPED.value),
    *(Reason.TTL.value, Reason.IDLE.value, Reason.NO_OUTPUT.value, Reason.SIGNALLED.value),
    *(Reason.OOM_KILLED.value, Reason.REBOOT.value, Reason.UNKNOWN.value),
)
"""Every reason, in the order of the legend: by itself, by request, lost, over time, killed."""
LOST = frozenset((Reason.OWNER_GONE.value, Reason.LEADER_EXITED.value, Reason.ABANDONED.value,
                  Reason.ESCAPED.value))  # fmt: skip
"""Reasons of members that nobody wanted any more, or that had left."""
SERVER = "mcp"
"""The kind of members that are servers."""


@dataclass(frozen=True, slots=True)
class Life:
    """One member from its start to its end, or until now."""

    session: str
    """Its label, if it has one."""
    lane: str
    unit: str
    member: str
    reason: str
    """One of REASONS."""
    started: float | None
    ended: float | None
    """None if it runs."""
    user: str = ""
    kind: str = ""
    seen: bool = True
    """Whether somebody watched the end; else it was over at ``ended``."""
    status: str = "-"
    evidence: str = ""
    memory_peak: int | None = None
    """Bytes."""
    cpu: float | None = None
    """Seconds."""
    command: str = ""
    host: str = ""
    """The machine that it ran on, if the page is about several."""


@dataclass(frozen=True, slots=True)
class Running:
    """One scope that runs."""

    session: str
    lane: str
    unit: str
    state: str
    """As in ``ls``."""
    owner: str
    evidence: str
    """What proves that it is lost; '' if it is not."""
    members: int
    processes: int
    age: float
    """Seconds."""
    memory: int | None = None
    cpu: float | None = None
    user: str = ""
    host: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether its owner has ended, or nobody can talk to it any more, and it may be ended."""
        return self.state in ("orphan", "abandoned")


@dataclass(frozen=True, slots=True)
class Outside:
    """One process that runs outside of the scope that it was started in."""

    session: str
    lane: str
    pid: int
    program: str
    evidence: str
    user: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on one page."""

    machine: str
    """Its name, or the names of all."""
    begin: float
    """Ends before that are not on it."""
    made: float
    version: str
    lives: tuple[Life, ...]
    """Those that ended since begin, the oldest first, then those that run."""
    running: tuple[Running, ...] = ()
    outside: tuple[Outside, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be read."""
    users: bool = False
    """Whether it is about several users."""
    commands: bool = False
    """Whether it shows the commands of members with their arguments."""
    hosts: tuple[str, ...] = ()
    """The machines that it is about, if they were asked for by name."""
    zone: tzinfo | None = None
    """In which its times are shown; None is the local one."""

    def time(self, moment: float) -> datetime | None:
        """Return a moment in the page's zone; None if no calendar has it."""
        try:
            return datetime.fromtimestamp(moment, self.zone).astimezone(self.zone)
        except (ValueError, OverflowError, OSError):
            return None

    def clock(self, moment: float) -> str:
        """Return a moment as text, to the second."""
        found = self.time(moment)
        return "?" if found is None else found.strftime("%Y-%m-%d %H:%M:%S")


def whose_titles(report: Report) -> list[str]:
    """Return the titles of the columns that have the host and the user."""
    return [*(["HOST"] if report.hosts else []), *(["USER"] if report.users else [])]


def whose(report: Report, each: Life | Running | Outside) -> list[str]:
    """Return the cells of these columns."""
    return [*([each.host] if report.hosts else []), *([each.user] if report.users else [])]


def named(host: str, user: str, name: str) -> str:
    """Return the name of a session or a server, after the host and user that it belongs to."""
    return ": ".join(filter(None, (host, user, name)))


def css_class(reason: str) -> str:
    """Return the class of elements of a reason."""
    return "r-" + reason.replace(" ", "-")


def counted(count: int, one: str, many: str = "") -> str:
    """Return ``1 scope``, ``5,000 scopes``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def by_reason(counts: Mapping[str, int]) -> str:
    """Return counts as text, the largest first: ``3 exited, 1 signalled``."""
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in ordered)
