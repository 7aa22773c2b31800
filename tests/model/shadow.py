"""The model: what was started, what was done to it, and what must therefore exist.

It never looks at the machine. What the documentation promises is written down here a second time,
as short as it goes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

RULES = """\
[lanes.default]
grace = "150ms"
abandoned_grace = "100ms"
leader_grace = "100ms"
[lanes.told]
orphans = "report"
[lanes.brief]
session_grace = "0s"
[lanes.slow]
orphan_grace = "300ms"
[lanes.tidy]
on_leader_exit = "stop"
[lanes.timed]
ttl = "400ms"
"""
LANES = ("main", "told", "brief", "slow", "tidy")
TIMED = "timed"
GONE, STOPPED, SUPERSEDED = "owner gone", "stopped by request", "superseded"


@dataclass(eq=False)
class Gateway:
    """One life of a gateway; ``unit`` is its service, '' of a bare process."""

    name: str
    unit: str = ""
    pid: int = 0
    lives: bool = True

    def is_same(self, other: "Gateway") -> bool:
        """Return whether both are lives of one gateway."""
        return self is other or bool(self.unit and self.unit == other.unit)


@dataclass(eq=False)
class Member:
    """What was launched, and what has been done to it since."""

    tag: str
    name: str
    session: str
    lane: str
    kind: str
    lifetime: str
    owner: Gateway
    unit: str = ""
    leaf: str = ""
    command: int = 0
    helper: int = 0
    """Pids; the helper is a process that the command has started, 0 if there is none."""
    waits: bool = False
    """Whether it is a place, and nothing is born in it."""
    leads: bool = True
    """Whether its command lives, as long as the member does."""
    helps: bool = False
    """The same of its helper."""
    is_out: bool = False
    """Whether the helper has left the member's cgroup."""
    client: bool = False
    """Whether a client holds the other ends of its pipes."""
    hung_up: bool = False
    paths: list[Path] = field(default_factory=list)
    """What is removed with it."""
    was_born: bool = True
    has_ended: bool = False
    reasons: tuple[str, ...] = ()
    """What its end may be called."""

    def end(self, *reasons: str) -> None:
        """Nothing lives in its cgroup any more."""
        self.has_ended, self.leads, self.reasons = True, False, reasons
        self.helps = self.helps and self.is_out

    def due(self) -> tuple[str, ...]:
        """Return why a keeper or reconcile ends it, once its graces are over; () if it stays."""
        if self.has_ended or self.waits:
            return ()
        why: list[str] = []
        ends_with_owner = self.lifetime == "gateway" or (
            self.lifetime == "session" and self.lane == "brief"
        )
        if not self.owner.lives and ends_with_owner and self.lane != "told":
            # systemd ends what is bound to a service; without a keeper nobody sees how
            why += [GONE, "unknown"] if self.owner.unit else [GONE]
        if self.hung_up:
            why.append("abandoned")
        stays_alone = self.lifetime == "detached" or (self.kind != "mcp" and self.lane != "tidy")
        if not self.leads and not stays_alone:
            why.append("leader exited")
        if self.lane == TIMED:
            why.append("ttl")
        return tuple(why)

    @property
    def is_bound(self) -> bool:
        """Whether systemd ends its scope by itself: with a service, or when its time is over."""
        return self.lane == TIMED or bool(self.owner.unit and not self.owner.lives)

    def alive(self) -> Iterator[tuple[int, bool]]:
        """Yield the pids that have to live, if it is not due, and whether each has left."""
        if self.leads and not self.waits and not self.has_ended:
            yield self.command, False
        if self.helps:
            yield self.helper, self.is_out


class Shadow:
    """Everything that must exist."""

    def __init__(self) -> None:
        self.gateways: list[Gateway] = []
        self.members: list[Member] = []
        self.kept: list[Path] = []
        """Paths that nobody may remove."""
        self.has_keeper = False

    def living(self) -> list[Member]:
        """Return the members that have not ended, places too."""
        return [each for each in self.members if not each.has_ended]

    def running(self) -> list[Member]:
        """Return those that have to live whatever is done next."""
        return [each for each in self.living() if not each.waits and not each.due()]

    def outside(self) -> list[Member]:
        """Return those whose helper has left, and lives."""
        return [each for each in self.members if each.helps and each.is_out]

    def up(self) -> list[Gateway]:
        return [each for each in self.gateways if each.lives]

    # what happens

    def gateway_ends(self, gateway: Gateway) -> None:
        gateway.lives = False

    def command_ends(self, member: Member, reason: str) -> None:
        """Its command ends by itself."""
        member.leads = False
        if not (member.helps and not member.is_out):
            member.end(*self.unless_seen(reason))

    def unless_seen(self, reason: str) -> tuple[str, ...]:
        """Return the reasons that an end may have: only a keeper surely sees how it came."""
        return (reason,) if self.has_keeper else (reason, "unknown")

    def stop(self, members: list[Member]) -> None:
        for each in members:
            each.end(STOPPED, *(each.due() if each.is_bound else ()))

    def replaced(self, by: Member) -> list[Member]:
        """End and return what a launch with ``--replace`` has replaced."""
        ended = []
        for each in self.living():
            is_earlier = each is not by and (each.unit, each.name) == (by.unit, by.name)
            yields = each.owner.is_same(by.owner) or not (each.owner.unit or each.owner.lives)
            if is_earlier and yields:
                each.end(SUPERSEDED, *(each.due() if each.is_bound else ()))
                ended.append(each)
        return ended

    def adopt(self, former: Gateway, new: Gateway) -> list[Member]:
        """Return what has a new owner."""
        adopted = [each for each in self.living() if each.owner is former]
        for each in adopted:
            each.owner = new
        return adopted

    def settle(self) -> None:
        """A keeper or reconcile has done all that is due."""
        for each in self.living():
            if why := each.due():
                each.end(*why)
