"""Select scopes and members by the options of a command. Pure."""

from dataclasses import dataclass

from scopekeeper.scope.model import Identity, Member, Owner, Scope, Snapshot
from scopekeeper.systemd.units import manager_uid


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

    def names_nothing(self) -> bool:
        """Return whether it would select everything: no condition names something."""
        return not self.units and not any(
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
        if self.name is not None and self.name not in (member.name, member.claims):
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

    @property
    def is_partial(self) -> bool:
        """Whether it can select single members of a scope."""
        return any(
            value is not None for value in (self.name, self.started_before, self.owner, self.own)
        )


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
