"""A target of a stop, held open: what lives in it, why it ends, and how many processes that are.

One definition of the count holds wherever an end is reported: the processes that lived in the
target when its stop began, with those that were born in it until it was over; and how many of
these had to be killed.
"""

import os

from scopekeeper.data import dataclass, field
from scopekeeper.history.end import End
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import leavers, observe, stop_counts, stop_mark, unseen_ends
from scopekeeper.lifecycle.stop_target import Result
from scopekeeper.scope.reason import Cause
from scopekeeper.scope.record_parser import ScopeRecord


@dataclass(slots=True)
class HeldTarget:
    """A target whose directory is held open.

    Everything is done by the descriptor: once the cgroup is removed it reaches nothing, even if a
    launch has created another cgroup of the same name.
    """

    result: Result
    fd: int
    scope_inode: int
    """Of the scope's cgroup, also if the target is a member; 0 if that is gone."""
    cause: Cause
    """Why it is stopped: of several stops, the cause of the first."""
    scope_record: ScopeRecord | None
    """As it was before this stop, with the label that it has; None if damaged."""
    earlier: Cause | None
    """The cause of an earlier stop that did not finish."""
    causes: dict[str, Cause] = field(default_factory=dict)
    """The cause of each member, by leaf: a stop of it alone may have begun before this one."""
    signalled: set[int] = field(default_factory=set)
    members: list[End] | None = None
    """Its members before the first signal; None if none was sent."""
    seen: dict[str, set[int]] = field(default_factory=dict)
    """The processes found in it since the stop began, by leaf; under '' all of them."""
    lived: dict[str, int] = field(default_factory=dict)
    """How many these are, by leaf, with those that another stop has found."""
    killed: dict[str, int] = field(default_factory=dict)
    """How many of these were killed, by leaf."""
    cpu_usec: dict[str, int] = field(default_factory=dict)
    """The CPU time of members, by leaf: when it was killed, and when it had ended."""
    kill_at: float | None = None
    """When its grace is over, by time.monotonic(); None before the first signal."""
    give_up_at: float | None = None
    """When what still lives counts as unkillable; None before the kill."""
    hidden: set[str] = field(default_factory=set)
    """Leaves whose living processes could all not be read."""
    children: leavers.Children = field(default_factory=dict)
    """Children outside of it that its processes had before the first signal."""

    @property
    def directory(self) -> str:
        """A path to the marked cgroup, and to no other."""
        return f"/proc/self/fd/{self.fd}"

    @property
    def uid(self) -> int:
        """The uid that owns it."""
        return os.fstat(self.fd).st_uid

    @property
    def leaf(self) -> str:
        """The name of the leaf if the target is a member, else ''."""
        return self.result.target.leaf

    def path_of(self, leaf: str) -> str:
        """Return the directory of a leaf."""
        return self.directory if self.leaf else f"{self.directory}/{leaf}"

    def processes(self) -> dict[str, list[int]]:
        """Return its processes by directory.

        The first call, before any signal, notes the members, children elsewhere and how much could
        not be read, and writes the cause to the ledger: it is needed if this process is killed and
        the cgroup is gone before anybody looks.
        """
        unread: list[cgroupfs.Unread] = []
        found = cgroupfs.processes_by_cgroup(self.directory, unread)
        if unread:
            cgroupfs.unlock(self.directory)
            unread.clear()
            found = cgroupfs.processes_by_cgroup(self.directory, unread)
        if self.members is None:
            self.result.unread = len(unread)
            if unread:
                by_leaf = observe.processes_by_leaf(self.directory, found, leaf=self.leaf)
                unseen = (leaf for leaf, pids in by_leaf.items() if not pids)
                self.hidden = {x for x in unseen if cgroupfs.is_populated(self.path_of(x))}
            pids = [pid for inside in found.values() for pid in inside]
            self.children = leavers.children_outside(pids, self.result.target.cgroup)
            self.members = self.observe(found)
            if self.uid == os.geteuid():
                scope = self.result.target.scope_directory[len(mount_point()) :]
                self.members += self._unrecorded(found, scope)
            self._announce()
        for leaf, pids in observe.processes_by_leaf(self.directory, found, leaf=self.leaf).items():
            self.seen.setdefault(leaf, set()).update(pids)
        self.seen.setdefault("", set()).update(pid for inside in found.values() for pid in inside)
        return found

    def cause_of(self, leaf: str) -> Cause:
        """Return why the member in a leaf is stopped."""
        return self.causes.get(leaf, self.cause)

    def _announce(self) -> None:
        """Write down what is about to be ended, why, and how many processes there are."""
        members = self.members or []
        if not self.leaf:
            begun = {each.leaf: stop_mark.begun(self.path_of(each.leaf)) for each in members}
            self.causes = {x: stop_mark.holding(c, self.cause) for x, c in begun.items() if c}
        if self.uid == os.geteuid():
            scope = self.result.target.scope_directory[len(mount_point()) :]
            causes = [self.cause_of(each.leaf) for each in members]
            unseen_ends.announce(members, causes, scope)
        counts = {each.leaf: each.processes or 0 for each in members}
        stop_counts.note(stop_counts.LIVED, self.scope_inode, self.fd, counts)

    def kill(self) -> None:
        """Kill all that lives in it, and write down how much that is."""
        found = self.processes()
        by_leaf = observe.processes_by_leaf(self.directory, found, leaf=self.leaf)
        self.killed = {leaf: len(pids) for leaf, pids in by_leaf.items()}
        self.result.killed = sum(map(len, found.values()))
        if self.result.killed or cgroupfs.is_populated(self.directory):
            self.result.outcome = "killed"
        self.note_usage()
        # before it: another stop of the same target reports what it finds here
        stop_counts.note(stop_counts.KILLED, self.scope_inode, self.fd, self.killed)
        cgroupfs.kill(self.directory)

    def note_usage(self) -> None:
        """Note the CPU time of members until now, as long as their cgroups are there."""
        for leaf in (each.leaf for each in self.members or ()):
            used = cgroupfs.keyed(cgroupfs.read(self.path_of(leaf), "cpu.stat"), "usage_usec")
            if used is not None:
                self.cpu_usec[leaf] = used

    def count(self, notes: stop_counts.Notes) -> None:
        """Count what lived in it, and what another stop of it has found and killed meanwhile."""
        others = notes.of(self.scope_inode)
        self.lived = {leaf: len(pids) for leaf, pids in self.seen.items() if leaf}
        living = [x.leaf for x in self.members or () if x.processes or x.leaf in self.hidden]
        for leaf in living:
            self.killed[leaf] = max(self.killed.get(leaf, 0), others.killed.get(leaf, 0))
            self.lived[leaf] = max(
                self.lived.get(leaf, 0), others.lived.get(leaf, 0), self.killed[leaf]
            )
        result = self.result
        strays = len(self.seen.get("", ())) - sum(map(len, (p for x, p in self.seen.items() if x)))
        result.killed = max(result.killed, sum(self.killed.values()))
        result.processes = max(sum(self.lived.values()) + strays, result.killed)
        if result.killed and result.outcome == "terminated":
            result.outcome = "killed"
        elif result.processes and result.outcome == "empty":
            result.outcome = "terminated"  # they ended with what got the signal

    def _unrecorded(self, found: dict[str, list[int]], scope: str) -> list[End]:
        """Return living members with a damaged record, as their launch described them.

        scope is the path of the scope's cgroup. Like all of the ledger this is what a process of
        the same user may have written: it names the row in that user's history, nothing else.
        """
        observed = {end.leaf for end in self.members or ()}
        by_leaf = observe.processes_by_leaf(self.directory, found, leaf=self.leaf)
        missing = {leaf: pids for leaf, pids in by_leaf.items() if pids and leaf not in observed}
        launched = unseen_ends.launched(scope) if missing else {}
        return [
            observe.measured(end, self.path_of(leaf), pids, end.pid if end.pid in pids else None)
            for leaf, pids in missing.items()
            if (end := launched.get(leaf)) is not None
        ]

    def observe(self, found: dict[str, list[int]] | None = None) -> list[End]:
        """Return its members as they are now; found has its processes, if read already."""
        unit = self.result.target.unit
        return observe.members(
            self.directory, self.scope_record, unit, leaf=self.leaf, found=found, hidden=self.hidden
        )
