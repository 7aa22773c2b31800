"""The facts of one user that metrics are made of. Plain data, which crosses processes as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RESOURCES = ("cpu", "io", "memory")
"""Those whose pressure the kernel measures (Documentation/accounting/psi.rst)."""

SESSIONS, MOST_SESSIONS = 50, 10_000
"""How many sessions have series of their own: by default, and at most."""


@dataclass(slots=True)
class Session:
    """The sums over the living scopes of a session, or of all that have no series of their own."""

    processes: int = 0
    memory_bytes: int | None = None
    """None if no scope has the memory controller."""
    cpu_seconds: float | None = None
    pressure: dict[str, float] = field(default_factory=dict)
    """By resource: the share of the last minute in which some process of the scope waited for it,
    of the scope that waited most."""


@dataclass(slots=True)
class Facts:
    """What is known of one user."""

    user: str
    scopes: list[tuple[str, str, str, int]] = field(default_factory=list)
    """Lane class, kind, state, and how many."""
    members: dict[str, int] = field(default_factory=dict)
    """By state."""
    sessions: dict[str, Session] = field(default_factory=dict)
    """By label value."""
    escaped: int = 0
    """Processes that left their scope."""
    unread: int = 0
    """Cgroups that could not be read."""
    ends: dict[str, int] | None = None
    """By reason; None if the history cannot be read."""
    failed: dict[str, int] = field(default_factory=dict)
    """Launches since boot that failed, by kind of error."""
    keeper_runs: bool = False


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What another host answered."""

    version: str
    """Of its scopekeeper."""
    users: Sequence[Facts]


@dataclass(frozen=True, slots=True)
class Health:
    """What a keeper knows of itself."""

    user: str
    policy_valid: bool
    bus_connected: bool
    watched_scopes: int
    runs: int
    unwritten_ends: int
    orphans_found: int
    log_messages: Mapping[str, int]
    """By level."""


def from_json(document: Any) -> Facts:  # noqa: ANN401  JSON
    """Return the facts that ``dataclasses.asdict`` made a JSON object of; raises TypeError."""
    facts = Facts(**document)
    facts.scopes = [(lane, kind, state, n) for lane, kind, state, n in facts.scopes]
    facts.sessions = {key: Session(**each) for key, each in document["sessions"].items()}
    return facts
