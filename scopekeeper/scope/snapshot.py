"""Reads the scopes of a machine out of cgroupfs and procfs; asks nobody.

cgroupfs cannot lie about what runs, and reading it is faster than asking systemd about it.
"""

import contextlib
import os
import time
from collections.abc import Sequence

from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.kernel.cgroupfs import Unread
from scopekeeper.scope import names, record_parser
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope, Snapshot
from scopekeeper.scope.placement import manager_of
from scopekeeper.scope.record_parser import StopMark
from scopekeeper.scope.records import ATTRIBUTE, CHILD, RecordError
from scopekeeper.scope.search import Search
from scopekeeper.systemd.units import epoch_of, links_folder, unit_at


class Reader:
    """Reads scopes below one cgroup2 mount; remembers owners that many members share.

    usage: also read what each scope uses of memory and CPU, which the kernel has to add up.
    activity: also read what says whether it does anything. unlock: give us back the access to
    cgroups of our own uid that a member took away; for those who are about to act.
    """

    def __init__(
        self, mount: str, *, usage: bool = False, activity: bool = False, unlock: bool = False
    ) -> None:
        self.mount = mount
        """Where cgroup2 is mounted."""
        self._usage = usage
        self._activity = activity
        self._unlock = unlock
        self._boot_id = proc.boot_id()
        self._namespaces = proc.namespaces()
        self.now = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        self._owners: dict[Owner, OwnerState] = {}

    def again(self) -> "Reader":
        """Return a reader that looks at owners and the clock afresh."""
        return Reader(self.mount, usage=self._usage, activity=self._activity, unlock=self._unlock)

    def snapshot(self, *, uid: int | None = None) -> Snapshot:
        """Return every scope of uid, of everybody where it is None."""
        search = Search(self.mount, uid)
        found = (self.scope(directory, uid) for directory in search.found)
        scopes = [scope for scope in found if scope is not None]
        scopes.sort(key=lambda s: (s.session, s.lane, s.run, s.cgroup))
        inside = [each for scope in scopes for each in scope.unread]
        return Snapshot(tuple(scopes), self.now, unread=(*search.unread, *inside))

    def of_others(self, uid: int) -> list[tuple[str, int]]:
        """Return the unit and uid of each scope that is not of this uid, by the names alone."""
        found = []
        for directory in Search(self.mount, None).found:
            with contextlib.suppress(OSError):
                owner = os.stat(directory).st_uid
                if owner != uid:
                    found.append((directory.rpartition("/")[2], owner))
        return found

    def scope(self, directory: str, only_uid: int | None = None) -> Scope | None:
        """Return one scope, None where it is gone or belongs to another uid than only_uid.

        Raises OSError only where the machine has no room to look, such as for a descriptor.
        """
        unit = directory.rpartition("/")[2]
        named = names.parse_unit(unit)
        if named is None:
            return None
        try:
            seen = os.stat(directory)
            if only_uid is not None and seen.st_uid != only_uid:
                return None
            scope = self._scope(directory, unit, named, seen)
            if scope.unread and self._unlock and scope.uid == os.geteuid():
                cgroupfs.unlock(directory)
                scope = self._scope(directory, unit, named, seen)
        except OSError as error:
            if error.errno in cgroupfs.GONE:
                return None
            raise
        return scope

    def _scope(
        self, directory: str, unit: str, named: tuple[str, str, str, bool], seen: os.stat_result
    ) -> Scope:
        session, lane, run, _ = named
        path = directory[len(self.mount) :]
        unread: list[Unread] = []
        try:
            raw = proc.attribute(directory, ATTRIBUTE)
            members, strays = self._inside(directory, unread)
        except PermissionError as error:
            problem = f"it cannot be read ({error.strerror})"
            closed = (Unread(directory, error.strerror or ""),)
            return Scope(
                unit=unit,
                directory=directory,
                cgroup=path,
                uid=seen.st_uid,
                inode=seen.st_ino,
                session=session,
                lane=lane,
                run=run,
                problem=problem,
                damaged=True,
                manager=manager_of(path),
                unread=closed,
                hidden=True,
            )
        pids = strays or any(member.pids for member in members)
        known = {
            "unit": unit,
            "directory": directory,
            "cgroup": path,
            "uid": seen.st_uid,
            "inode": seen.st_ino,
            "manager": manager_of(path),
            "members": members,
            "strays": strays,
            "unrecorded": raw is None,
            "unread": tuple(unread),
            "hidden": bool(unread) and not pids and cgroupfs.is_populated(directory),
        }
        if self._activity:
            known["activity"] = _activity(directory, members)
        if self._usage:
            known["memory_bytes"] = _number(cgroupfs.read(directory, "memory.current"))
            known["cpu_usec"] = cgroupfs.keyed(cgroupfs.read(directory, "cpu.stat"), "usage_usec")
        try:
            record = record_parser.scope(raw, unit)
        except RecordError as error:
            damaged = raw is not None and not isinstance(error, record_parser.NewerError)
            return Scope(session=session, lane=lane, run=run, problem=str(error),
                         damaged=damaged, **known)  # type: ignore[arg-type]  # fmt: skip
        identity = record.identity
        return Scope(
            session=identity.session,
            lane=identity.lane,
            run=identity.run,
            claims=record.claims,
            session_id=record.session_id,
            kind=record.kind,
            lifetime=record.lifetime,
            created=record.created,
            born=record.born,
            age=max(0, self.now - (record.born or self.now)) / 1e6,
            ttl=record.ttl,
            grace=record.grace,
            stopping=record.mark is not None,
            stopper=_living_stopper(record.mark),
            elsewhere=self._is_elsewhere(record.owner.namespaces, path, members, strays),
            idle_since=record.idle,
            owner=record.owner,
            **known,  # type: ignore[arg-type]
        )

    def _is_elsewhere(
        self, said: str, path: str, members: Sequence[Member], strays: Sequence[int]
    ) -> bool:
        """Tell whether a scope was made in another container, as its record says.

        That would hide it from its session: what lives here is here, whatever the record says.
        """
        if not said or said == self._namespaces:
            return False
        if said.partition("/")[0] == self._namespaces.partition("/")[0]:
            return not manager_of(path)
        pids = [*strays, *(pid for member in members for pid in member.pids)]
        return all(_is_nested(pid) for pid in pids)

    def _inside(
        self, directory: str, unread: list[Unread]
    ) -> tuple[tuple[Member, ...], tuple[int, ...]]:
        members, strays = [], cgroupfs.own_processes(directory)
        for name in cgroupfs.children(directory):
            member = self._member(f"{directory}/{name}", name, unread)
            if member is None:
                strays += cgroupfs.processes(f"{directory}/{name}", unread)
            else:
                members.append(member)
        if strays:  # a threaded leaf's processes are listed in the scope as well
            inside = {pid for member in members for pid in member.pids if pid}
            strays = [pid for pid in strays if pid not in inside]
        members.sort(key=lambda member: (member.started, member.name, member.member_id))
        return tuple(members), tuple(strays)

    def _member(self, directory: str, name: str, unread: list[Unread]) -> Member | None:
        parsed = names.parse_leaf(name)
        if parsed is None:
            return None
        path = directory[len(self.mount) :]
        problems: list[Unread] = []
        pids = tuple(cgroupfs.processes(directory, problems))
        unread += problems
        hidden = bool(problems) and not pids and cgroupfs.is_populated(directory)
        try:
            record = record_parser.member(cgroupfs.attribute(directory, ATTRIBUTE), name)
        except RecordError as error:
            return Member(*parsed, directory, path, problem=str(error), pids=pids, hidden=hidden)
        except PermissionError as error:
            problem = f"it cannot be read ({error.strerror})"
            return Member(*parsed, directory, path, problem=problem, pids=pids, hidden=hidden)
        pid: int | None = record.pid
        start_time: int | None = record.start_time
        # wherever it is by now: what is left in the leaf may be helpers of a command that moved on
        leads = start_time is not None and _start_time(pid) == start_time
        if record.joining == CHILD:  # it is not written yet whose leaf it is
            pid, start_time, leads = None, None, bool(pids) or hidden
        return Member(
            record.name,
            parsed[1],
            directory,
            path,
            claims=record.claims,
            pid=pid,
            start_time=start_time,
            leader_lives=leads,
            started=record.started,
            born=record.born,
            kind=record.kind,
            lifetime=record.lifetime,
            owner_state=self.owner_state(record.owner),
            orphaned=record.orphaned,
            leaderless=record.leaderless,
            stopping=record.mark is not None,
            stopper=_living_stopper(record.mark),
            pids=pids,
            hidden=hidden,
        )

    def owner_state(self, owner: Owner) -> OwnerState:
        """Return whether an owner's epoch goes on, with the evidence."""
        if owner not in self._owners:
            self._owners[owner] = OwnerState(owner, *self._proof(owner))
        return self._owners[owner]

    def _proof(self, owner: Owner) -> tuple[Liveness, str]:
        if owner.boot_id != self._boot_id:
            return Liveness.UNKNOWN, "the record is of another boot"
        if owner.namespaces != self._namespaces:
            return Liveness.UNKNOWN, "the owner lives in another container (namespaces differ)"
        if owner.unit:
            return self._unit_proof(owner)
        if owner.pid is None or owner.pid < 1 or owner.start_time is None:
            return Liveness.UNKNOWN, "the record names no owner"
        started = _start_time(owner.pid)
        if started is None:
            return Liveness.GONE, f"process {owner.pid} has ended"
        if started != owner.start_time:
            return Liveness.GONE, f"process {owner.pid} has ended; its number is another's now"
        return Liveness.ALIVE, f"process {owner.pid} runs"

    def _unit_proof(self, owner: Owner) -> tuple[Liveness, str]:
        directory = self.mount + owner.cgroup
        if not owner.epoch or not owner.cgroup:
            return Liveness.UNKNOWN, f"the record has no epoch of {owner.unit}"
        if not os.path.isdir(directory):
            # systemd keeps the cgroup of a unit for as long as the unit is active
            return Liveness.GONE, f"{owner.unit} has stopped"
        if _is_inactive(owner):
            # and longer, where KillMode=process leaves something in it
            return Liveness.GONE, f"{owner.unit} has stopped; its cgroup is still there"
        epoch = epoch_of(self.mount, owner.cgroup)
        if not epoch:
            if not os.path.isdir(directory):
                return Liveness.GONE, f"{owner.unit} has stopped"  # in this very moment
            return Liveness.UNKNOWN, f"the epoch of {owner.unit} cannot be read"
        if epoch != owner.epoch:
            return Liveness.GONE, f"{owner.unit} has been started again since"
        return Liveness.ALIVE, f"{owner.unit} runs"


def _is_inactive(owner: Owner) -> bool:
    """Tell whether the owner's manager says so: it has a link for each unit that is active.

    A folder without any link proves nothing: somebody may have covered it.
    """
    folder = links_folder(owner.cgroup)
    try:
        links = os.listdir(folder)
    except OSError:
        return False
    return bool(links) and f"invocation:{unit_at(owner.cgroup)}" not in links


def _activity(directory: str, members: Sequence[Member]) -> tuple[int, int] | None:
    cpu = cgroupfs.keyed(cgroupfs.read(directory, "cpu.stat"), "usage_usec")
    if cpu is None:
        return None
    written = 0
    for pid in (pid for member in members for pid in member.pids):
        with contextlib.suppress(OSError):
            text = proc.read(f"/proc/{pid}/io").replace(":", "")
            written += cgroupfs.keyed(text, "wchar") or 0
    return cpu, written


def _living_stopper(mark: StopMark | None) -> int:
    """Return who is at a stop; 0 where it was left, and for this process, which knows itself."""
    if mark is None or not mark.pid or mark.start_time is None or mark.pid == os.getpid():
        return 0
    return mark.pid if _start_time(mark.pid) == mark.start_time else 0


def _start_time(pid: int | None) -> int | None:
    """Return when a living process began; None for one that has ended, zombies included."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = proc.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        # where only the main thread has ended, the state is Z too, and others of its threads count
        ended = fields[0] in "ZX" and int(fields[17]) < 2
        return None if ended else int(fields[19])
    return None


def _is_nested(pid: int) -> bool:
    """Tell whether a process lives in a PID namespace below ours; one that has ended may."""
    for line in (cgroupfs.read(f"/proc/{pid}", "status") or "").splitlines():
        if line.startswith("NSpid:"):  # its number in each namespace, ours first
            return len(line.split()) > 2
    return True


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None
