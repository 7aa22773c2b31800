"""Remembers one scope from one look at it to the next."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from scopekeeper.history.end import End
from scopekeeper.keeper import continued, end_reason
from scopekeeper.keeper.end_reason import Circumstances
from scopekeeper.kernel import cgroupfs, oomd, proc
from scopekeeper.kernel.exit_status import Exit
from scopekeeper.lifecycle import observe, stop_counts, stop_mark
from scopekeeper.scope import record_parser
from scopekeeper.scope.model import Liveness, Member, Owner, Scope
from scopekeeper.scope.reason import Cause
from scopekeeper.scope.record_parser import ScopeRecord
from scopekeeper.scope.records import ATTRIBUTE, RecordError
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd.service_end import was_killed
from scopekeeper.systemd.shutdown import UnitState

_EXEC_USEC = 500_000
"""By then a launch has become its command, and /proc shows the command's own arguments."""


@dataclass(slots=True)
class Ending:
    """A member with no process left; how its command ended may yet become known."""

    end: End
    cause: Cause | None
    around: Circumstances
    of: "TrackedScope"
    owner: Owner | None
    inode: int = 0
    """Of the scope's cgroup."""
    claim: str = ""
    """The cause that only its own record states."""
    start_time: int | None = None
    """Of its command, in clock ticks since boot."""
    exit: Exit | None = None
    asked: bool = False
    """Whether systemd has been asked what it stops: the owner, the manager or the machine."""
    deadline: float = 0.0
    """When to report it, by the loop's clock, even if nothing more becomes known."""

    @property
    def key(self) -> str:
        """How records name the member."""
        return f"{self.end.unit}/{self.end.leaf}"

    @property
    def is_in_doubt(self) -> bool:
        """Whether it may have ended with the service that owns it, and systemd was not asked yet.

        The end of the service may not be visible, or how it ended. Or it may be the end of this
        very process: the service's own main process can be a member in the cgroup of the service.
        """
        is_open = not (self.cause or self.asked)
        return bool(self.around.bound_to and is_open and end_reason.may_follow(self.exit))

    @property
    def is_proved(self) -> bool:
        """Whether it is proved that it ended with the service that owns it."""
        return bool(self.around.owner_gone) and not self.is_inside

    @property
    def is_unexplained(self) -> bool:
        """Whether it may have gone down with the machine, which is not checked yet."""
        return not self.asked and self.cause is None and end_reason.was_ended(self.exit)

    def counted(self, notes: stop_counts.Notes) -> End:
        """Return the end with the numbers of the stop that brought it about; None if unknown.

        Those of the last look may be old: no event comes when a process of a member starts or ends.
        """
        notes.look()
        counts, leaf = notes.of(self.inode), self.end.leaf
        killed = counts.killed.get(leaf, 0)
        processes = max(counts.lived.get(leaf, 0), killed) or None
        return dataclasses.replace(self.end, processes=processes, killed=killed)

    @property
    def is_inside(self) -> bool:
        """Whether its scope is in the cgroup of the service that owns it."""
        return self.owner is not None and _is_inside(self.of.scope, self.owner)

    def look_again(
        self, reader: Reader, states: Mapping[Owner, UnitState], killed: Mapping[Owner, str]
    ) -> None:
        """Check whether the owner is gone by now.

        states is what systemd reports of services, killed how those were killed that were. The end
        of a process that owns a member is not that of the service around both.
        """
        if self.owner is None:
            return
        gone = _evidence(reader, self.owner)
        state = states.get(self.owner)
        is_leaving = state is not None and state.is_leaving
        if state is not None and is_leaving and not gone:
            gone = state.evidence(self.owner.unit or self.owner.outer_unit)
        if gone and self.owner in killed:
            gone = was_killed(self.owner.unit or self.owner.outer_unit, killed[self.owner])
        is_main = state is not None and state.main_pid == self.end.pid
        is_of_service = bool(self.owner.unit) or is_leaving
        bound = self.around.bound_to if is_of_service and not is_main else ""
        self.around = dataclasses.replace(self.around, owner_gone=gone, bound_to=bound)


@dataclass(slots=True)
class TrackedScope:
    """One scope as it was at the last look, and what has happened to its members since.

    Dicts are by leaf.
    """

    scope: Scope
    record: ScopeRecord | None = None
    """None if not read yet, or damaged."""
    cause: Cause | None = None
    """Why the scope is being stopped."""
    ends: dict[str, End] = field(default_factory=dict)
    """The living members, each as the End that it would have now."""
    causes: dict[str, Cause] = field(default_factory=dict)
    """Why a single member is being stopped."""
    claims: dict[str, str] = field(default_factory=dict)
    """The cause that a member's record states and no stopper confirms."""
    started: dict[str, int] = field(default_factory=dict)
    """The first start time in a member's record. With the leaf's id it is the key of the row in the
    history: a member that rewrites its record must not get any number of rows."""
    exits: dict[str, Exit] = field(default_factory=dict)
    oom_kills: dict[str, int] = field(default_factory=dict)
    """Under '' those that the kernel counted for the scope as a whole."""

    by_oomd: set[str] = field(default_factory=set)
    """Leaves that systemd-oomd has killed; '' if it has killed the whole scope."""
    peaked: set[str] = field(default_factory=set)
    """Leaves whose memory peak was read after an OOM kill in them."""
    fresh: dict[str, int] = field(default_factory=dict)
    """Leaves that came just now, and until when they count as new; microseconds of
    CLOCK_BOOTTIME."""
    born: int = 0
    """Microseconds of CLOCK_BOOTTIME."""

    def look(self, scope: Scope, reader: Reader) -> tuple[list[Member], list[Ending]]:
        """Update to the current state; return the members that came, and those that ended."""
        with contextlib.suppress(OSError, RecordError):
            raw = cgroupfs.attribute(scope.directory, ATTRIBUTE)
            self.record = record_parser.scope(raw, scope.unit)
            self._note_label(self.record.label)
            self.cause = stop_mark.cause(scope.directory, self.record.mark)
        last, self.scope = self.scope, scope
        self.born = reader.now - round(scope.age * 1e6)
        living = {member.leaf: member for member in scope.members if self._lives(member)}
        there = {member.leaf for member in scope.members}
        self.started = {leaf: began for leaf, began in self.started.items() if leaf in there}
        came = [member for leaf, member in living.items() if leaf not in self.ends]
        if came or self._has_changed(living):
            self._observe(living)
        self.fresh = {leaf: until for leaf, until in self.fresh.items() if until > reader.now}
        self.fresh |= {member.leaf: reader.now + _EXEC_USEC for member in came}
        ended = [leaf for leaf in self.ends if leaf not in living]
        return came, [self._ending(leaf, last, reader) for leaf in ended]

    def _note_label(self, label: str) -> None:
        for leaf, end in self.ends.items():
            if end.label != label:
                self.ends[leaf] = dataclasses.replace(end, label=label)

    def gone(self, reader: Reader) -> list[Ending]:
        """Return the ends of all members that were left."""
        return [self._ending(leaf, self.scope, reader) for leaf in list(self.ends)]

    def note_kill(self, leaf: str) -> None:
        """Count an OOM kill, and read the memory peak while the leaf may still exist."""
        self.oom_kills[leaf] = self.oom_kills.get(leaf, 0) + 1
        peak = observe.memory_peak(f"{self.scope.directory}/{leaf}") if leaf else None
        if peak is not None and leaf in self.ends:
            self.ends[leaf] = dataclasses.replace(self.ends[leaf], memory_peak=peak)
            self.peaked.add(leaf)

    def take_kills(self, leaf: str) -> int:
        """Return and forget how many processes of a leaf were OOM-killed.

        The event comes up to 10 ms late, when the leaf may have ended (cgroup_file_notify, 6.1).
        """
        return self.oom_kills.pop(leaf, 0)

    def take_kill(self) -> int:
        """Return 1, and count it off, if there was an OOM kill in the scope in an unknown leaf."""
        left = self.oom_kills.get("", 0)
        if left:
            self.oom_kills[""] = left - 1
        return min(left, 1)

    def take_oomd(self, leaf: str) -> str:
        """Return the evidence that systemd-oomd killed a leaf, and forget it; '' if it did not."""
        if leaf in self.by_oomd:
            self.by_oomd.discard(leaf)
            return oomd.EVIDENCE
        return f"{oomd.EVIDENCE} of its scope" if "" in self.by_oomd else ""

    def was_killed_for_memory(self, leaf: str) -> bool:
        """Return whether the kernel or systemd-oomd killed a leaf, or its whole scope."""
        return bool(self.oom_kills.get(leaf) or self.by_oomd & {leaf, ""})

    def _has_changed(self, living: dict[str, Member]) -> bool:
        """Return True if members need another look; a command's arguments appear on exec."""
        return not living.keys().isdisjoint(self.fresh) or any(
            self.ends[leaf].processes != len(member.pids) or self.ends[leaf].pid != member.pid
            for leaf, member in living.items()
        )

    def _observe(self, living: dict[str, Member]) -> None:
        directory, unit = self.scope.directory, self.scope.unit
        for end in observe.members(directory, self.record, unit, arriving=True):
            if end.leaf not in living:
                continue
            before = self.ends.get(end.leaf)
            argv = before.argv if before is not None and not end.argv else end.argv
            started = self.started.setdefault(end.leaf, end.started)
            self.ends[end.leaf] = dataclasses.replace(end, argv=argv, started=started)
        for leaf in living:
            self._note_mark(leaf)

    def _ending(self, leaf: str, last: Scope, reader: Reader) -> Ending:
        end = self.ends.pop(leaf)
        directory = f"{self.scope.directory}/{leaf}"
        usage = cgroupfs.keyed(cgroupfs.read(directory, "cpu.stat"), "usage_usec")
        peak = observe.memory_peak(directory)
        if peak is None and not self._was_killed(leaf):
            peak = end.memory_peak  # from the last look
        end = dataclasses.replace(
            end, ended=time.time_ns() // 1000, cpu_usec=usage or end.cpu_usec, memory_peak=peak,
            pid=end.pid or _pid_in(directory), seen=True,
        )  # fmt: skip
        self._note_mark(leaf)
        cause = self.causes.pop(leaf, None) or self.cause
        of_scope = self.record.mark if self.record is not None else None
        claim = self.claims.pop(leaf, "") or stop_mark.claim(of_scope)
        member = next((each for each in last.members if each.leaf == leaf), None)
        state = member.owner_state if member is not None else None
        owner = state.owner if state is not None else None
        gone = _evidence(reader, owner) if owner is not None else ""
        ttl = last.ttl if last.manager else None
        bound = self.record.bound if self.record is not None else ""
        if owner is not None and end.lifetime == "gateway" and _is_inside(self.scope, owner):
            bound = owner.unit
        around = Circumstances(bound, gone, ttl, reader.now - self.born)
        start_time = member.start_time if member is not None else None
        return Ending(end, cause, around, self, owner, self.scope.inode, claim, start_time)

    def _was_killed(self, leaf: str) -> bool:
        """Return True after an OOM kill since the peak was read: then that peak is too low."""
        is_read = leaf in self.peaked
        self.peaked.discard(leaf)
        return not is_read and bool(self.oom_kills.get(leaf) or self.oom_kills.get(""))

    def _note_mark(self, leaf: str) -> None:
        """Note why a single member is being stopped, if it is."""
        directory = f"{self.scope.directory}/{leaf}"
        with contextlib.suppress(OSError, RecordError):
            found = record_parser.member(cgroupfs.attribute(directory, ATTRIBUTE), leaf).mark
            cause = stop_mark.cause(directory, found)
            if cause is not None:
                self.causes[leaf] = cause
            elif found is not None:
                self.claims[leaf] = stop_mark.claim(found)

    def _lives(self, member: Member) -> bool:
        """Return True if a member lives, or is on its way in.

        A member with a damaged record counts only if it was seen before the damage; one that is not
        sure of its scope, and may leave it for another, only once it is.
        """
        if member.unsure and member.leaf not in self.ends:
            return False
        if member.problem:
            return member.lives and member.leaf in self.ends
        return member.lives or (_is_on_its_way(member) and not continued.has_gone_on(member))


def _pid_in(directory: str) -> int | None:
    """Return the pid in the record of a leaf that was born into: it was written after the birth."""
    with contextlib.suppress(OSError, RecordError):
        raw = cgroupfs.attribute(directory, ATTRIBUTE)
        record = record_parser.member(raw, directory.rpartition("/")[2])
        return None if record.joining else record.pid or None
    return None


def _is_inside(scope: Scope, owner: Owner) -> bool:
    """Return whether systemd ends a scope with its owner because it is in the owner's cgroup."""
    return bool(owner.unit and owner.cgroup) and scope.cgroup.startswith(f"{owner.cgroup}/")


def _evidence(reader: Reader, owner: Owner) -> str:
    """Return the evidence that an owner is gone; '' if it is not."""
    try:
        state = reader.owner_state(owner)
    except (OSError, ValueError, OverflowError):
        return ""  # a record that no launch wrote proves nothing
    return state.evidence if state.liveness is Liveness.GONE else ""


def _is_on_its_way(member: Member) -> bool:
    """Return whether the process that a record names runs elsewhere, about to join its leaf.

    A zombie has left its cgroup for good.
    """
    try:
        return proc.runs(member.pid or 0, member.start_time or 0)
    except OSError:
        return False
