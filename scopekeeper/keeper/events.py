"""What the keeper is told. Pure: a small closed set of frozen data.

Each says only where to look again, and what was seen; the scope itself is read by
``snapshot.Reader`` then.
"""

import enum
from dataclasses import dataclass

from scopekeeper.kernel.exit_status import Exit
from scopekeeper.scope.model import Owner


class What(enum.Enum):
    """What changed about a leaf, or about the scope itself."""

    CAME = "came"
    EMPTIED = "emptied"
    POPULATED = "populated"
    WENT = "went"
    RECORD = "record"
    OOM_KILL = "oom-kill"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed; leaf is the name of its directory, '' for the scope itself.

    Of an OOM kill '' means: in which leaf is not known, since only the scope has a limit.
    """

    leaf: str
    what: What


@dataclass(frozen=True, slots=True)
class ScopeAppeared:
    """A scope of ours is there, and watched; its record and members may be yet to come."""

    directory: str


@dataclass(frozen=True, slots=True)
class ScopeChanged:
    """Something in a scope changed since it was told of last."""

    directory: str
    changes: frozenset[Change]


@dataclass(frozen=True, slots=True)
class ScopeGone:
    """A scope's directory was removed, and its owners are not followed for it any more."""

    directory: str


@dataclass(frozen=True, slots=True)
class LeaderEnded:
    """A member's launched process ended; leaf is the name of its directory.

    It may come after ScopeGone: how a process ended is sometimes known only when its parent has
    reaped it.
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
    """The kernel dropped events: read everything afresh. The watches are complete again."""


@dataclass(frozen=True, slots=True)
class Blind:
    """Something cannot be watched, and has to be looked at from time to time instead."""

    directory: str
    """The scope that it concerns, '' where it may be any."""
    problem: str


Event = ScopeAppeared | ScopeChanged | ScopeGone | LeaderEnded | OwnerChanged | Overflow | Blind
