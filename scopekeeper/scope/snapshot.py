"""Read the scopes of a machine from cgroupfs and procfs.

cgroupfs is always right about what runs, and faster to read than to ask systemd.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence

from scopekeeper.kernel import cgroupfs, peers, proc
from scopekeeper.kernel.cgroupfs import Unread
from scopekeeper.kernel.unix_sockets import Sockets
from scopekeeper.scope import activity, names, record_parser
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope, Snapshot
from scopekeeper.scope.placement import manager_of
from scopekeeper.scope.record_parser import MemberRecord, StopMark
from scopekeeper.scope.records import ATTRIBUTE, CHILD, PLACED, PLACING, RecordError
from scopekeeper.scope.search import Search
from scopekeeper.systemd.units import epoch_of, links_folder, unit_at


class Reader:
    """Reads scopes below one cgroup2 mount; checks an owner that several members share once.

    usage: also read the memory and CPU of each scope, which costs the kernel some work. activity:
    also read the counters that show whether it is idle. unlock: restore our access to cgroups of
    our own uid that a member took away; for callers that are about to act. sockets: returns what
    is known of unix sockets, by default nothing: it is slow to ask the kernel
    (``unix_sockets.read``), so it is only called if there is a server with a socket.
    """

    def __init__(
        self,
        mount: str,
        *,
        usage: bool = False,
        activity: bool = False,
        unlock: bool = False,
        sockets: Callable[[], Sockets] = dict,
    ) -> None:
        self.mount = mount
        """The mount point of cgroup2."""
        self._sockets = sockets
        self._usage = usage
        self._activity = activity
        self._unlock = unlock
        self._boot_id = proc.boot_id()
        self._namespaces = proc.namespaces()
        self.now = proc.boottime()
        self._owners: dict[Owner, OwnerState] = {}
        self._living_namespaces: frozenset[str] | None = None

    def again(self) -> "Reader":
        """Return a new reader with the same options, which checks owners and the clock again."""
        return Reader(
            self.mount,
            usage=self._usage,
            activity=self._activity,
            unlock=self._unlock,
            sockets=self._sockets,
        )

    def snapshot(self, *, uid: int | None = None) -> Snapshot:
        """Return every scope of uid (None: of everybody)."""
        search = Search(self.mount, uid)
        found = (self.scope(directory, uid) for directory in search.found)
        scopes = [scope for scope in found if scope is not None]
        scopes.sort(key=lambda s: (s.session, s.lane, s.run, s.cgroup))
        inside = [each for scope in scopes for each in scope.unread]
        return Snapshot(tuple(scopes), self.now, unread=(*search.unread, *inside))

    def of_others(self, uid: int) -> list[tuple[str, int]]:
        """Return the unit and uid of each scope of other uids; reads only their names."""
        found = []
        for directory in Search(self.mount, None).found:
            with contextlib.suppress(OSError):
                owner = os.stat(directory).st_uid
                if owner != uid:
                    found.append((directory.rpartition("/")[2], owner))
        return found

    def scope(self, directory: str, only_uid: int | None = None) -> Scope | None:
        """Return one scope, None if it is gone or belongs to another uid than only_uid.

        Raises OSError only if the machine is out of a resource, such as descriptors.
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
            inside = [pid for member in members for pid in member.pids]
            known["activity"] = activity.read(directory, inside)
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
        elsewhere = self._is_elsewhere(record.owner.namespaces, path, members, strays)
        return Scope(
            session=identity.session,
            lane=identity.lane,
            run=identity.run,
            label=record.label,
            label_taken=record.label_taken,
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
            elsewhere=elsewhere,
            container_ended=elsewhere
            and not pids
            and self._has_ended(record.owner.namespaces, path),
            idle_since=record.idle,
            owner=record.owner,
            **known,  # type: ignore[arg-type]
        )

    def _is_elsewhere(
        self, recorded: str, path: str, members: Sequence[Member], strays: Sequence[int]
    ) -> bool:
        """Return whether a scope was made in another container.

        Its record states that, but is not believed if processes of it live here: a forged record
        would hide the scope from its session.
        """
        if not recorded or recorded == self._namespaces:
            return False
        if recorded.partition("/")[0] == self._namespaces.partition("/")[0]:
            return not manager_of(path)
        pids = [*strays, *(pid for member in members for pid in member.pids)]
        return all(_is_nested(pid) for pid in pids)

    def _has_ended(self, recorded: str, path: str) -> bool:
        """Return whether no process runs in the namespaces of the container that made a scope.

        A cgroup is of this boot, and its user is checked with its directory. What the systemd of a
        container made is left to systemd.
        """
        if manager_of(path):
            return False
        if self._living_namespaces is None:
            self._living_namespaces = frozenset(_living_namespaces())
        pids, _, cgroups = recorded.partition("/")
        shares_pids = pids == self._namespaces.partition("/")[0]
        which = f"cgroup:[{cgroups}]" if shares_pids else f"pid:[{pids}]"
        return which not in self._living_namespaces

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
        if strays:  # the processes of a threaded leaf are listed in the scope as well
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
        raw: bytes | None = b""
        try:
            raw = cgroupfs.attribute(directory, ATTRIBUTE)
            record = record_parser.member(raw, name)
        except RecordError as error:
            unrecorded = raw is None and _seconds_since_change(directory) > names.ENTERING_SECONDS
            return Member(*parsed, directory, path, problem=str(error), unrecorded=unrecorded,
                          pids=pids, hidden=hidden)  # fmt: skip
        except PermissionError as error:
            problem = f"it cannot be read ({error.strerror})"
            return Member(*parsed, directory, path, problem=problem, pids=pids, hidden=hidden)
        pid: int | None = record.pid
        start_time: int | None = record.start_time
        # in any cgroup: the leaf may hold only helpers of a command that has left it
        leads = _runs(record.pid, record.start_time)
        holder = 0
        if record.joining in (CHILD, PLACED, PLACING):  # its command's pid is not written yet
            lives = bool(pids) or hidden
            holder = record.pid if record.joining != CHILD and leads and not lives else 0
            pid, start_time, leads = None, None, lives
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
            launched_in=record.launched_in,
            ignored=record.ignored,
            continues=record.continues,
            orphaned=record.orphaned,
            leaderless=record.leaderless,
            abandoned=self._proof_of_abandonment(record) if leads else "",
            abandoned_since=record.abandoned,
            unsure=record.joining not in ("", CHILD, PLACED),
            holder=holder,
            waits_until=record.waits_until if holder else None,
            stopping=record.mark is not None,
            stopper=_living_stopper(record.mark),
            pids=pids,
            hidden=hidden,
            activity=activity.read(directory, pids) if self._activity else None,
            idle_since=record.idle,
        )

    def _proof_of_abandonment(self, record: MemberRecord) -> str:
        """Return the proof that nobody can talk to a member's living process; '' if there is none.

        Of a launch that named its kind, stdin alone proves it: closing it ends an MCP server (MCP
        specification, stdio transport). Any other may be a job at the end of a pipeline.
        """
        if record.kind != "mcp" or record.lifetime == "detached":
            return ""
        if not peers.has_no_writer(record.pid, self._sockets):
            return ""
        proof = "nobody holds the other end of its stdin"
        if not record.says_kind:
            if not peers.has_no_reader(record.pid, self._sockets):
                return ""
            proof += " and of its stdout"
        return proof if _runs(record.pid, record.start_time) else ""  # not another's by now

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
        if owner.pid is None or owner.pid < 1:
            return Liveness.UNKNOWN, "the record names no owner"
        try:
            stat = proc.stat_of(owner.pid)
        except OSError as error:
            return Liveness.UNKNOWN, f"process {owner.pid} cannot be read ({error.strerror})"
        if stat is None or stat.has_ended:
            return Liveness.GONE, f"process {owner.pid} has ended"
        if owner.start_time is None:
            return Liveness.UNKNOWN, f"process {owner.pid} was hidden from the launch"
        if stat.start_time != owner.start_time:
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
            # and longer if KillMode=process leaves processes in it
            return Liveness.GONE, f"{owner.unit} has stopped; its cgroup is still there"
        epoch = epoch_of(self.mount, owner.cgroup)
        if not epoch:
            if not os.path.isdir(directory):
                return Liveness.GONE, f"{owner.unit} has stopped"  # in this moment
            return Liveness.UNKNOWN, f"the epoch of {owner.unit} cannot be read"
        if epoch != owner.epoch:
            return Liveness.GONE, f"{owner.unit} has been started again since"
        return Liveness.ALIVE, f"{owner.unit} runs"


def _is_inactive(owner: Owner) -> bool:
    """Return whether the owner's manager lacks the link that it keeps for each active unit.

    A folder without any link proves nothing: another mount may hide it.
    """
    folder = links_folder(owner.cgroup)
    try:
        links = os.listdir(folder)
    except OSError:
        return False
    return bool(links) and f"invocation:{unit_at(owner.cgroup)}" not in links


def _living_stopper(mark: StopMark | None) -> int:
    """Return the process that runs a stop; 0 if it has ended or is this process."""
    if mark is None or not mark.pid or mark.start_time is None or mark.pid == os.getpid():
        return 0
    return mark.pid if _runs(mark.pid, mark.start_time) else 0


def _seconds_since_change(directory: str) -> float:
    """Return for how long a cgroup has been as it is; 0 if it is gone."""
    try:
        return time.time() - os.stat(directory).st_ctime
    except OSError:
        return 0.0


def _runs(pid: int, start_time: int) -> bool:
    """Return whether a process still runs; False also if it cannot be read."""
    try:
        return proc.runs(pid, start_time)
    except OSError:
        return False


def _living_namespaces() -> Iterator[str]:
    """Yield the PID and cgroup namespaces of every process that we may look at."""
    for pid in proc.pids():
        for kind in ("pid", "cgroup"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/{pid}/ns/{kind}")


def _is_nested(pid: int) -> bool:
    """Return whether a process lives in a PID namespace below ours, or has ended."""
    for line in (cgroupfs.read(f"/proc/{pid}", "status") or "").splitlines():
        if line.startswith("NSpid:"):  # its pid in each namespace, ours first
            return len(line.split()) > 2
    return True


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None
