"""The end of one member, as the history keeps it. Pure."""

from scopekeeper.data import dataclass, replace
from scopekeeper.scope import names
from scopekeeper.scope.reason import Reason, Stopper

ARGV_MAX = 8192
"""Longest command line in characters, to keep the history small."""

TRIAL = ("scopekeeper", "doctor")
"""Session and lane of the trial of ``doctor``, which the history leaves out."""
UNSEEN = "nobody watched it end"
MISSED = "it ended while no keeper watched"
UNTOLD = "it ended, and only its parent knows how"
UNPROVED = "which nothing proves"
"""Follows evidence from a record that the member itself may have written."""
BETWEEN_LOOKS = "it ended before anyone looked"
ENDED_BEFORE = "its command had ended before"
MEANWHILE = "meanwhile also"
"""Before the cause of a stop that came while another stop was under way."""
_VAGUE = (UNSEEN, MISSED, UNTOLD, BETWEEN_LOOKS)
"""Evidence that only states that nothing is known."""


@dataclass(frozen=True, slots=True)
class End:
    """One ended member, identified by member_id and started.

    Times are microseconds since the epoch; None means unknown.
    """

    member_id: str
    """8 hex digits."""
    started: int
    ended: int
    """When the end was seen, or found later if nobody watched."""
    session: str
    lane: str
    name: str
    reason: Reason
    evidence: str = ""
    """One sentence without its full stop."""
    session_id: str = ""
    run: str = ""
    kind: str = ""
    lifetime: str = ""
    unit: str = ""
    pid: int | None = None
    argv: tuple[str, ...] = ()
    """Empty if it was not read in time; cut after ARGV_MAX characters."""
    owner: str = ""
    """The owner's unit, or ``pid N``."""
    boot_id: str = ""
    exit_status: int | None = None
    signal: int | None = None
    memory_peak: int | None = None
    """Bytes."""
    cpu_usec: int | None = None
    """When it had ended, or at the last look before."""
    oom_kills: int | None = None
    """Processes that the kernel killed when out of memory."""
    processes: int | None = None
    """Number of processes when its stop began, and of those that were born until it was over; of
    what ended otherwise, at the last look. The one definition: see ``lifecycle.held_target``."""
    killed: int = 0
    """How many of these processes needed SIGKILL."""
    seen: bool = True
    """Whether somebody watched the end."""
    stopper: Stopper | None = None
    label: str = ""
    """A second name of its session, given to the scope while it lived."""
    scratch_bytes: int | None = None
    """The size of its scratch folder when that was removed."""

    @property
    def shown_session(self) -> str:
        """The name of its session for people: the label, if it had one."""
        return self.label or self.session

    @property
    def leaf(self) -> str:
        """The name of its cgroup directory."""
        return names.leaf_name(self.name, self.member_id)


_FILLED = (
    "exit_status", "signal", "memory_peak", "cpu_usec", "oom_kills", "processes", "stopper",
    "scratch_bytes",
)  # fmt: skip


def merged(known: End, new: End) -> End:
    """Merge two reports of one end.

    A reason replaces ``unknown`` and no other reason: the first report is the most direct one. If
    neither has a reason, specific evidence replaces vague evidence. Missing numbers are filled in;
    of processes and of CPU time the larger numbers hold.
    """
    if _explains(new, known):
        first, second = new, known
    else:
        first, second = known, new
    if first is known and _says_more(new, known):
        first = replace(first, evidence=new.evidence)
    changes: dict[str, object] = {
        name: getattr(second, name)
        for name in _FILLED
        if getattr(first, name) is None and getattr(second, name) is not None
    }
    # both from reports of the same end: each saw at most all of its processes and of their time
    if None not in (first.cpu_usec, second.cpu_usec):
        changes["cpu_usec"] = max(first.cpu_usec or 0, second.cpu_usec or 0)
    if None not in (first.processes, second.processes):
        changes["processes"] = max(first.processes or 0, second.processes or 0)
    changes["killed"] = max(first.killed, second.killed)
    changes["label"] = first.label or second.label
    if not first.argv and second.argv:
        changes["argv"] = second.argv
    return replace(first, **changes)  # type: ignore[arg-type]


def _explains(new: End, known: End) -> bool:
    """Return whether new has the only reason, or a stopper where known is unproved."""
    if new.reason is Reason.UNKNOWN:
        return False
    return known.reason is Reason.UNKNOWN or (
        UNPROVED in known.evidence and new.stopper is not None and known.stopper is None
    )


def _says_more(new: End, known: End) -> bool:
    names_second_stop = new.evidence.startswith(f"{known.evidence}; {MEANWHILE}")
    if new.reason is known.reason and names_second_stop and UNSEEN not in new.evidence:
        return True
    return (
        new.reason is known.reason is Reason.UNKNOWN
        and known.evidence in _VAGUE
        and new.evidence not in ("", *_VAGUE)
        # a later look at the owner proves nothing about the moment of the end
        and not (known.evidence == BETWEEN_LOOKS and new.evidence.startswith(BETWEEN_LOOKS))
    )


def cut_argv(argv: list[str]) -> tuple[str, ...]:
    """Cut a command line to ARGV_MAX characters; ``…`` marks the cut."""
    kept, room = [], ARGV_MAX
    for word in argv:
        if len(word) > room:
            kept.append(word[:room] + "…")
            break
        kept.append(word)
        room -= len(word) + 1
    return tuple(kept)
