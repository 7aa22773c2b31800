"""Select scopes and members by the options of a command. Pure."""

from scopekeeper.data import dataclass, replace
from scopekeeper.scope.model import Identity, Member, Owner, Scope, Snapshot
from scopekeeper.systemd.units import manager_uid

STATES = (
    "running", "placed", "kept", "orphan", "abandoned", "expired", "leaderless", "stopping",
    "empty", "foreign", "damaged", "forged",
)  # fmt: skip
"""The states of a scope, as ``Scope.state`` returns them."""


@dataclass(frozen=True, slots=True)
class Own:
    """The owners that a caller's launches record; see ``scopekeeper.scope.mine``."""

    namespaces: str
    unit: str = ""
    manager: str = ""
    """The manager of the unit: a uid, '' for the system's."""
    processes: frozenset[tuple[int, int]] = frozenset()
    """Pids with their start times."""

    def includes(self, owner: Owner) -> bool:
        """Return whether an owner is the caller's unit, in any epoch, or one of its processes.

        The guests of a service belong to the service itself, not to its other guests.
        """
        if owner.namespaces != self.namespaces:
            return False
        if owner.unit:
            return (owner.unit, manager_uid(owner.cgroup)) == (self.unit, self.manager)
        if (owner.pid, owner.start_time) in self.processes:
            return True
        outer = (owner.outer_unit, manager_uid(owner.outer_cgroup))
        return bool(self.unit) and outer == (self.unit, self.manager)


@dataclass(frozen=True, slots=True)
class Selector:
    """The conditions of a selection; None is no condition."""

    session: str | None = None
    lane: str | None = None
    run: str | None = None
    session_id: str | None = None
    name: str | None = None
    owner: str | None = None
    """A unit's name or a pid."""
    own: Own | None = None
    """Only members that belong to one of these."""
    units: frozenset[str] = frozenset()
    lifetimes: frozenset[str] = frozenset()
    """Any of these; empty is no condition."""
    started_before: float | None = None
    """Seconds since the epoch."""
    states: frozenset[str] = frozenset()
    """Any of these, of the whole scope; empty is no condition."""

    def names_nothing(self) -> bool:
        """Return whether it would select everything: no condition names something."""
        return not (self.units or self.states) and not any(
            value is not None
            for value in (self.session, self.session_id, self.name, self.owner, self.own)
        )

    def matches_scope(self, scope: Scope) -> bool:
        """Return whether the scope matches, as a whole or with some of its members."""
        if not any(self.matches_identity(each) for each in scope.identities):
            return False
        if self.session_id is not None and self.session_id != scope.session_id:
            return False
        if self.session_id == "":
            return False  # empty in every scope that was launched without one
        if self.lifetimes and scope.lifetime not in self.lifetimes:
            return False
        if self.states and scope.state not in self.states:
            return False
        if scope.elsewhere and not self.units:
            return False  # a session of that name in a container is another session
        return not self.units or scope.unit in self.units

    def matches_identity(self, identity: Identity) -> bool:
        """Return whether a scope with this identity can match."""
        wanted = (
            (self.session, identity.session),
            (self.lane, identity.lane),
            (self.run, identity.run),
        )
        return all(value is None or value == own for value, own in wanted)

    def matches_member(self, member: Member) -> bool:
        """Return whether a member of a matching scope matches."""
        if self.name is not None and not self._is_name_of(member):
            return False
        if member.problem:
            return True
        if self.started_before is not None and member.started / 1e6 >= self.started_before:
            return False
        if self.owner is None and self.own is None:
            return True
        if member.owner_state is None:
            return False
        owner = member.owner_state.owner
        if self.own is not None and not self.own.includes(owner):
            return False
        return self.owner is None or is_owner(owner, self.owner)

    def _is_name_of(self, member: Member) -> bool:
        """Return whether the name is the member's; '' is of none, also where nothing is claimed."""
        return bool(self.name) and self.name in (member.name, member.claims)

    @property
    def is_partial(self) -> bool:
        """Whether it can select single members of a scope."""
        return any(
            value is not None for value in (self.name, self.started_before, self.owner, self.own)
        )

    @property
    def judges(self) -> bool:
        """Whether it selects by owner or state, which can change before a stop."""
        return self.own is not None or self.owner is not None or bool(self.states)

    @property
    def knows_by_name(self) -> bool:
        """Whether the name of a scope decides if it matches, so that it may be gone."""
        return not (self.is_partial or self.session_id is not None or self.lifetimes or self.states)


def is_owner(owner: Owner, wanted: str) -> bool:
    """Return whether an owner is the unit or the pid in wanted, or runs in that unit."""
    if wanted.isdecimal():
        return owner.pid == int(wanted)
    unit = owner.unit or owner.outer_unit
    return bool(unit) and unit in (wanted, f"{wanted}.service")


@dataclass(frozen=True, slots=True)
class Selected:
    """A whole scope, or one member of it."""

    scope: Scope
    member: Member | None = None


def select(snapshot: Snapshot, selector: Selector) -> list[Selected]:
    """Return the matching scopes, or single members if the selector is partial.

    Never a whole scope instead of all its members: another one may be joining.
    """
    found = []
    for scope in snapshot.scopes:
        if not selector.matches_scope(scope):
            continue
        if not selector.is_partial:
            found.append(Selected(scope))
            continue
        living = scope.present_members or scope.members
        # a damaged member has no known owner: its leaf's name selects it, and stop refuses it
        matched = (m for m in living if selector.matches_member(m))
        found += [Selected(scope, member) for member in matched]
    return found


def covers(selector: Selector, scope: Scope, member: Member | None) -> bool:
    """Return whether the selector selects this member, or without one, all that lives in the scope.

    So a stop of a whole scope is only covered if every member of it is.
    """
    if not selector.matches_scope(scope):
        return False
    if not selector.is_partial:
        return True
    if member is not None:
        return selector.matches_member(member)
    parts = scope.present_members or scope.members
    return bool(parts) and not scope.strays and all(map(selector.matches_member, parts))


def shows(selector: Selector, scope: Scope) -> bool:
    """Return whether a list of scopes shows this one: it matches, or a member of it does.

    Unlike ``select``, also a scope that was made in another container.
    """
    named = replace(selector, units=frozenset([scope.unit]))
    return (not selector.units or scope.unit in selector.units) and bool(
        select(Snapshot((scope,)), named)
    )
