"""The data of one moment: scopes, members, owners. Pure: frozen data, no I/O."""

from collections.abc import Sequence
from enum import Enum

from scopekeeper.data import dataclass, field
from scopekeeper.kernel.cgroupfs import Unread


class Liveness(Enum):
    """Whether an owner's epoch goes on, as far as that can be proved."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Identity:
    """The parts of a scope's name."""

    session: str
    lane: str
    run: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a member: a service by unit and InvocationID, else a process."""

    unit: str = ""
    epoch: str = ""
    cgroup: str = ""
    pid: int | None = None
    start_time: int | None = None
    """In clock ticks since boot, as proc_pid_stat(5) field 22."""
    boot_id: str = ""
    namespaces: str = ""
    """The PID and cgroup namespaces in which pid and cgroup are valid."""
    outer_unit: str = ""
    """The service in which a process runs without being part of it, as in a terminal's unit."""
    outer_cgroup: str = ""
    name: str = field(default="", compare=False)
    """Of the process's program, for people: it proves nothing, and can change."""

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.unit or (f"pid {self.pid}" if self.pid else "-")

    def has_named(self, session: str) -> bool:
        """Return whether a session has its name from this owner: its unit, or program and pid."""
        if self.unit:
            return session == self.unit
        return bool(self.pid) and ":" not in session and session.endswith(f"-{self.pid}")

    def is_same(self, other: "Owner") -> bool:
        """Return whether this is the same gateway: a unit in any epoch, or one process."""
        if self.unit or other.unit:
            return (self.unit, self.cgroup) == (other.unit, other.cgroup)
        if self.pid is None or self.start_time is None:
            return False  # nobody saw when it began: another process can have its number by now
        mine = (self.pid, self.start_time, self.boot_id, self.namespaces)
        return mine == (other.pid, other.start_time, other.boot_id, other.namespaces)


@dataclass(frozen=True, slots=True)
class OwnerState:
    """An owner, whether it lives, and the evidence."""

    owner: Owner
    liveness: Liveness
    evidence: str

    def yields_to(self, owner: Owner) -> bool:
        """Return whether a launch by that owner may replace members of this one.

        Never another gateway's, even if its unit is down: it may return and adopt them. A process
        that has ended does not return.
        """
        if self.owner.is_same(owner):
            return True
        return not self.owner.unit and self.liveness is Liveness.GONE


@dataclass(frozen=True, slots=True)
class Member:
    """One launched command in its leaf."""

    name: str
    member_id: str
    directory: str
    cgroup: str
    problem: str = ""
    """Why the record cannot be used; then only the fields above are known."""
    unrecorded: bool = False
    """Whether it has had no record for longer than a launch takes to write one."""
    claims: str = ""
    """The name in its record if that contradicts the leaf: the record is forged."""
    pid: int | None = None
    start_time: int | None = None
    """Of the launched process, in clock ticks since boot."""
    leader_lives: bool = False
    """Whether the launched process itself lives, in the leaf or elsewhere."""
    started: int = 0
    """Microseconds since the epoch."""
    born: int = 0
    """The same by CLOCK_BOOTTIME, which nobody can set; 0 if the record lacks it."""
    kind: str = ""
    lifetime: str = ""
    owner_state: OwnerState | None = None
    launched_in: tuple[str, ...] = ()
    """The members that it was launched from, each as ``UNIT/LEAF``, the nearest last."""
    ignored: str = ""
    """The variable of a client that does not count, a blank, and the reason."""
    continues: int = 0
    """How many of these, the nearest ones, its own process was before."""
    orphaned: int | None = None
    """When it was first seen without its owner, in microseconds of CLOCK_BOOTTIME."""
    leaderless: int | None = None
    """When it was first seen without its launched process, while others of it lived."""
    abandoned: str = ""
    """The proof that nobody can talk to this MCP server any more; '' if there is none."""
    abandoned_since: int | None = None
    """When that was first seen."""
    unsure: bool = False
    """Whether it may yet leave: its launch has joined a scope that may be about to end."""
    holder: int = 0
    """The pid of the process that holds the scope for it while it waits for its first process."""
    waits_until: int | None = None
    """When it is removed if that has not come, in microseconds of CLOCK_BOOTTIME."""
    stopping: bool = False
    """Whether a stop of this member alone has begun."""
    stopper: int = 0
    """The pid of the process that stops it, if it lives and is not this one; else 0."""
    pids: tuple[int, ...] = ()
    hidden: bool = False
    """Whether it has living processes, all of them in cgroups that cannot be read."""
    activity: tuple[int, int] | None = None
    idle_since: tuple[int, int, int] | None = None
    """As those of a scope."""

    @property
    def lives(self) -> bool:
        """Whether it has a living process."""
        return bool(self.pids) or self.hidden

    @property
    def is_stillborn(self) -> bool:
        """Whether its launch was killed before it wrote the record, and it is empty."""
        return self.unrecorded and not self.lives

    @property
    def earlier(self) -> tuple[str, ...]:
        """The members that its process was before, each as in launched_in."""
        return self.launched_in[-self.continues :] if self.continues else ()

    @property
    def waits(self) -> bool:
        """Whether it was placed, and waits for its first process."""
        return self.holder > 0

    @property
    def shown_pid(self) -> int | None:
        """A living process to show for it: its command, or what that has left."""
        if self.leader_lives and self.pid:
            return self.pid
        return self.pids[0] if self.pids else self.pid

    @property
    def leaf(self) -> str:
        """The name of its cgroup directory."""
        return self.directory.rpartition("/")[2]

    @property
    def state(self) -> str:
        """One of abandoned, damaged, exited, forged, kept, leaderless, orphan, placed, running."""
        if self.problem and not self.is_stillborn:
            return "damaged"
        if self.claims:
            return "forged"
        if not self.lives:
            return "placed" if self.waits else "exited"
        if self.is_orphan:
            return "kept" if self.is_kept else "orphan"
        if self.abandoned:
            return "abandoned"
        if not self.leader_lives:
            return "leaderless"
        return "kept" if self.is_kept else "running"

    @property
    def is_orphan(self) -> bool:
        """Whether its owner's epoch is proved to be over, and that may end it, at once or later."""
        return self._has_lost_owner and self.lifetime != "detached"

    @property
    def is_kept(self) -> bool:
        """Whether its owner's epoch is proved to be over, and it was started to outlive that."""
        return self._has_lost_owner and self.lifetime in ("session", "detached")

    @property
    def _has_lost_owner(self) -> bool:
        return self.owner_state is not None and self.owner_state.liveness is Liveness.GONE

    def yields_to(self, owner: Owner) -> bool:
        """Return whether a launch by that owner may replace it."""
        return self.owner_state is not None and self.owner_state.yields_to(owner)


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope and its members, as read from cgroupfs."""

    unit: str
    directory: str
    cgroup: str
    uid: int
    session: str
    lane: str
    run: str = ""
    inode: int = 0
    """Of the cgroup; a later one of the same name has another."""
    problem: str = ""
    """Why its record cannot be used: missing, damaged, or of a newer version."""
    damaged: bool = False
    """Whether it has a record that no version writes."""
    label: str = ""
    """A second name of its session, given to it while it lived; '' if there is none."""
    label_taken: bool = False
    """Whether it took the label over when it was made: later, another session may use it."""
    claims: Identity | None = None
    """The identity in its record if that contradicts its name: the record is forged."""
    unrecorded: bool = False
    """Whether it has no record: somebody else made it, or its launch was killed."""
    manager: str = ""
    """``system`` or ``user``; '' for a plain cgroup."""
    session_id: str = ""
    kind: str = ""
    lifetime: str = ""
    created: int = 0
    """Microseconds since the epoch."""
    born: int = 0
    """The same by CLOCK_BOOTTIME, which nobody can set: orders scopes by age."""
    age: float = 0.0
    """Seconds, by CLOCK_BOOTTIME."""
    ttl: int | None = None
    grace: int | None = None
    """Microseconds, as given to the launch."""
    stopping: bool = False
    """Whether a stop of it has begun."""
    stopper: int = 0
    """The pid of the process that stops it, if it lives and is not this one; else 0."""
    elsewhere: bool = False
    """Whether it was made in another container, whose pids and sessions are not valid here."""
    container_ended: bool = False
    """Whether no process of that container runs any more; never known if systemd made the scope."""
    owner: Owner = field(default_factory=Owner)
    members: tuple[Member, ...] = ()
    strays: tuple[int, ...] = ()
    """Processes in the scope but in no member's leaf."""
    unread: tuple[Unread, ...] = ()
    """Cgroups below it that could not be read."""
    hidden: bool = False
    """Whether it has living processes, all of them in cgroups that cannot be read."""
    memory_bytes: int | None = None
    """None if the memory controller is not delegated, or usage was not requested."""
    cpu_usec: int | None = None
    activity: tuple[int, int] | None = None
    """CPU time in microseconds and bytes written so far; None if not requested."""
    idle_since: tuple[int, int, int] | None = None
    """When activity was last seen to change (CLOCK_BOOTTIME), and its value then."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Every process in the scope."""
        return self.strays + tuple(pid for member in self.members for pid in member.pids)

    @property
    def living_members(self) -> tuple[Member, ...]:
        """The members with a living process."""
        return tuple(member for member in self.members if member.lives)

    @property
    def present_members(self) -> tuple[Member, ...]:
        """The members with a living process, and those that wait for their first one."""
        return tuple(member for member in self.members if member.lives or member.waits)

    @property
    def lives(self) -> bool:
        """Whether it has a living process."""
        return bool(self.pids) or self.hidden

    @property
    def is_closed(self) -> bool:
        """Whether it cannot be read at all, not even its record."""
        return any(each.directory == self.directory for each in self.unread)

    def yielding(self, owners: Sequence[Owner]) -> "tuple[Member, ...] | None":
        """Return the living members that yield to any of some owners, None if the whole scope does.

        Processes outside of every member go with the members, or if there are none, with the
        scope's own owner.
        """
        living = self.living_members
        found = tuple(m for m in living if any(m.yields_to(owner) for owner in owners))
        if living:
            return None if found == living else found
        return None if any(self.owner.is_same(owner) for owner in owners) else ()

    @property
    def is_unusable(self) -> bool:
        """Whether it has a record that this version cannot use: damaged, or a newer one's."""
        return bool(self.problem) and not self.unrecorded

    @property
    def is_stillborn(self) -> bool:
        """Whether its launch was killed before it wrote the record, and it is empty."""
        return self.unrecorded and bool(self.manager) and not self.lives

    @property
    def is_anothers(self) -> bool:
        """Whether it is left to the container that made it: it may use it yet."""
        return self.elsewhere and (self.lives or not self.container_ended)

    @property
    def has_expired(self) -> bool:
        """Whether it has lived longer than its ttl."""
        return self.ttl is not None and self.age > self.ttl / 1e6

    @property
    def identities(self) -> tuple[Identity, ...]:
        """Its identity by its name; also by its label, and by its record if that is forged."""
        found = [Identity(self.session, self.lane, self.run)]
        if self.label:
            found.append(Identity(self.label, self.lane, self.run))
        if self.claims is not None:
            found.append(self.claims)
        return tuple(found)

    @property
    def shown_session(self) -> str:
        """The name of its session for people: the label, if it has one."""
        return self.label or self.session

    @property
    def forgery(self) -> str:
        """How its record contradicts its name; '' if it does not."""
        if self.claims is None:
            return ""
        said, own = self.claims, self.identities[0]
        return f"its record says {_described(said)}; its name says {_described(own)}"

    def command_to_end(self, uid: int) -> str:
        """Return the shell command with which uid can end it without its record."""
        return command_to_end(self.directory, self.manager, "" if uid == self.uid else self.uid)

    @property
    def state(self) -> str:
        """One of the states of ``ls``, except ghost."""
        if self.damaged:
            return "damaged"
        if self.problem and not self.is_stillborn:
            return "foreign"
        if not self.lives:
            return "empty"
        if self.claims is not None:
            return "forged"
        if self.stopping:
            return "stopping"
        if self.elsewhere:
            return "running"
        if self.has_expired:
            return "expired"
        living = [each for each in self.living_members if not (each.problem or each.claims)]
        if self.is_orphan:
            return "kept" if all(member.is_kept for member in living) else "orphan"
        if living and all(member.is_orphan or member.abandoned for member in living):
            return "abandoned"
        if living and not any(member.leader_lives for member in living):
            return "leaderless"
        if living and all(member.is_kept for member in living):
            return "kept"
        return "placed" if self.present_members and not living else "running"

    @property
    def is_orphan(self) -> bool:
        """Whether every living member is one, of those with a record that can be trusted."""
        living = [each for each in self.living_members if not (each.problem or each.claims)]
        return bool(living) and all(member.is_orphan for member in living)


def command_to_end(directory: str, manager: str, other_uid: int | str = "") -> str:
    """Return the shell command that ends a scope; other_uid is the user of its manager."""
    import shlex

    if not manager:
        return f"echo 1 > {shlex.quote(directory + '/cgroup.kill')}"
    how = " --user" if manager == "user" else ""
    if how and other_uid != "":
        how += f" -M {other_uid}@"
    return f"systemctl{how} stop {shlex.quote(directory.rpartition('/')[2])}"


def _described(identity: Identity) -> str:
    run = f", run {identity.run}" if identity.run else ""
    return f"session {identity.session}, lane {identity.lane}{run}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All scopes at one moment."""

    scopes: tuple[Scope, ...]
    now: int = 0
    """That moment, in microseconds of CLOCK_BOOTTIME."""
    units: frozenset[str] | None = None
    """Names of the active scope units of systemd; None if it was not asked."""
    unread: tuple[Unread, ...] = ()
    """Cgroups that could not be read; they may hold more scopes or processes."""
