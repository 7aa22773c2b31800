"""The events that ``watch`` reports to the keeper. Pure: a small closed set of frozen data.

An event carries only where to look and what was seen; ``snapshot.Reader`` then reads the scope.
"""

import enum
from dataclasses import dataclass

from scopekeeper.kernel.exit_status import Exit
from scopekeeper.scope.model import Owner


class What(enum.Enum):
    """What changed about a leaf or about the scope itself."""

    CAME = "came"
    EMPTIED = "emptied"
    POPULATED = "populated"
    WENT = "went"
    RECORD = "record"
    OOM_KILL = "oom-kill"
    OOMD_KILL = "oomd-kill"
    """systemd-oomd kills the leaf, or the whole scope."""
    PEER_LEFT = "peer-left"
    """Somebody has closed the other end of its stdin or stdout."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change; leaf is the name of its directory, '' for the scope itself.

    For an OOM kill '' means that the leaf is unknown, since only the scope has a limit.
    """

    leaf: str
    what: What


@dataclass(frozen=True, slots=True)
class ScopeAppeared:
    """A scope of ours exists and is watched; its record and members may be yet to come."""

    directory: str


@dataclass(frozen=True, slots=True)
class ScopeChanged:
    """Something in a scope changed since the last event about it."""

    directory: str
    changes: frozenset[Change]


@dataclass(frozen=True, slots=True)
class ScopeGone:
    """A scope's directory was removed; its owners are no longer followed for it."""

    directory: str


@dataclass(frozen=True, slots=True)
class LeaderEnded:
    """A member's launched process ended; leaf is the name of its directory.

    May follow ScopeGone: some exit statuses are known only after the parent has reaped the process.
    """

    directory: str
    leaf: str
    exit: Exit


@dataclass(frozen=True, slots=True)
class OwnerChanged:
    """An owner may have ended: look at it."""

    owner: Owner


@dataclass(frozen=True, slots=True)
class Overflow:
    """The kernel dropped events: read everything again. The watches are complete."""


@dataclass(frozen=True, slots=True)
class Blind:
    """Something cannot be watched and has to be polled instead."""

    directory: str
    """The scope concerned, '' if it may be any."""
    problem: str


Event = ScopeAppeared | ScopeChanged | ScopeGone | LeaderEnded | OwnerChanged | Overflow | Blind
