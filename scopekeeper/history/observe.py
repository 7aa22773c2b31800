"""What can be known of a member that is about to end, or that has ended; reads, and tells.

The memory controller reaches into a member's own cgroup only where the member has limits of its
own. Where it does not, the scope's numbers are the member's if the scope was made for it alone, as
for a PTY run; in a cohort they may be another's, one's perhaps that is no longer there.
"""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence

from scopekeeper import cgroup, mark, names, records
from scopekeeper.history.end import UNSEEN, End, cut_argv
from scopekeeper.history.reason import Cause, Reason, Stopper
from scopekeeper.inspect import command_line


def caller() -> Stopper:
    """Return who called this program: the process that asked for what it does."""
    parent = os.getppid() or os.getpid()  # a parent outside of our PID namespace reads as 0
    process = f"/proc/{parent}"
    try:
        command = (cgroup.read(process, "comm") or "").rstrip("\n")
        return Stopper(parent, os.stat(process).st_uid, command)
    except OSError:
        return Stopper(parent, os.getuid(), "")


def members(
    directory: str,
    scope: Mapping[str, str],
    unit: str,
    *,
    leaf: str = "",
    found: Mapping[str, Sequence[int]] | None = None,
    arriving: bool = False,
) -> list[End]:
    """Return the members of a scope, each as it would be told if nothing more became known.

    directory is the scope's, or with leaf that of one member; scope is the scope's record; found
    are the processes by directory, where they were read already. What carries no record that can
    be read is left out, and so, unless arriving, is a launch that is still on its way in.
    """
    if found is None:
        found = cgroup.processes_by_cgroup(directory)
    by_leaf = processes_by_leaf(directory, found, leaf=leaf)
    ends = []
    for name, pids in by_leaf.items():
        where = directory if leaf else f"{directory}/{name}"
        try:
            end = _member(where, name, pids, scope, unit, arriving=arriving)
            if end is not None and end.oom_kills is None and len(by_leaf) == 1 and not leaf:
                end = _with_memory_of(directory, scope, end)
        except (OSError, ValueError):  # a record that is damaged raises ValueError too
            continue
        if end is not None:
            ends.append(end)
    return ends


def processes_by_leaf(
    directory: str, found: Mapping[str, Sequence[int]], *, leaf: str = ""
) -> dict[str, list[int]]:
    """Group the processes of a scope, or of the one leaf that directory is, by leaf."""
    by_leaf: dict[str, list[int]] = {}
    for path, pids in found.items():
        name = leaf or path[len(directory) + 1 :].partition("/")[0]
        if leaf or names.parse_leaf(name) is not None:
            by_leaf.setdefault(name, []).extend(pids)
    return by_leaf


def unseen(directory: str, only: str = "") -> list[End]:
    """Return the members of a scope in which nothing lives any more, or the one with that leaf.

    Their reason is what the kernel or the mark of a stop still tells, else unknown.
    """
    try:
        scope = records.loads(
            cgroup.attribute(directory, records.ATTRIBUTE) or b"", records.OF_SCOPE
        )
    except (OSError, records.RecordError):
        return []
    now = time.time_ns() // 1000
    _, killed = _memory(directory)
    ends = []
    for end in members(directory, scope, directory.rpartition("/")[2]):
        if not end.processes and only in ("", end.leaf):
            found = told(end, _last_cause(f"{directory}/{end.leaf}", scope), now)
            if killed and found.oom_kills is None:  # whose they were cannot be told
                words = f"{found.evidence}; memory.events.local of its scope: oom_kill {killed}"
                found = dataclasses.replace(found, evidence=words)
            ends.append(found)
    return ends


def caused(end: End, cause: Cause, ended: int, killed: int = 0) -> End:
    """Return an end that was watched, with the cause that was seen to bring it about.

    killed is how many of its processes needed SIGKILL.
    """
    evidence = [cause.evidence] if cause.evidence else []
    if not end.argv:
        evidence.append("its command had ended before")
    return dataclasses.replace(
        end,
        ended=ended,
        reason=cause.reason,
        evidence="; ".join(evidence),
        stopper=cause.stopper,
        killed=killed,
    )


def told(end: End, cause: Cause | None, ended: int) -> End:
    """Return an end that nobody watched with the reason that can be proved of it.

    cause is what a stop had marked it with that did not see its end.
    """
    end = dataclasses.replace(end, ended=ended, seen=False, reason=Reason.UNKNOWN, evidence=UNSEEN)
    if end.oom_kills:
        reason = Reason.OOM_KILLED
        evidence = f"{UNSEEN}; memory.events.local: oom_kill {end.oom_kills}"
        return dataclasses.replace(end, reason=reason, evidence=evidence)
    if cause is not None:
        evidence = "; ".join(filter(None, (cause.evidence, UNSEEN)))
        return dataclasses.replace(
            end, reason=cause.reason, evidence=evidence, stopper=cause.stopper
        )
    return end


def _last_cause(leaf: str, scope: Mapping[str, str]) -> Cause | None:
    try:
        record = records.loads(cgroup.attribute(leaf, records.ATTRIBUTE) or b"")
    except (OSError, records.RecordError):
        record = {}
    return mark.cause(record) or mark.cause(scope)


def _member(
    directory: str,
    leaf: str,
    pids: Sequence[int],
    scope: Mapping[str, str],
    unit: str,
    *,
    arriving: bool,
) -> End | None:
    raw = cgroup.attribute(directory, records.ATTRIBUTE)
    if raw is None:
        return None
    record = records.loads(raw, records.OF_MEMBER)
    pid = int(record["PID"])
    if not pids and not arriving and _runs(pid, record["START"]):
        return None  # it has yet to move in, or it has moved out: it has not ended
    argv = command_line(pid) if pid in pids else None
    peak, oom_kills = _memory(directory)
    return End(
        member_id=leaf.rpartition(".")[2],
        started=int(record.get("STARTED", "0")),
        ended=0,
        session=scope.get("SESSION", ""),
        lane=scope.get("LANE", ""),
        name=record["NAME"],
        reason=Reason.UNKNOWN,
        evidence=UNSEEN,
        session_id=scope.get("SESSION_ID", ""),
        run=scope.get("RUN", ""),
        kind=record.get("KIND", ""),
        lifetime=record.get("LIFETIME", ""),
        unit=unit,
        pid=None if record.get("JOINING") == records.CHILD else pid,
        argv=cut_argv(argv) if argv and argv != [""] else (),
        owner=_owner(record),
        boot_id=record.get("BOOT", ""),
        memory_peak=peak,
        cpu_usec=cgroup.keyed(cgroup.read(directory, "cpu.stat"), "usage_usec"),
        oom_kills=oom_kills,
        processes=len(pids),
    )


def _with_memory_of(directory: str, scope: Mapping[str, str], end: End) -> End:
    """Add the numbers of a scope that was made for this member alone."""
    if scope.get("KIND") != "pty" or scope.get("CREATED") != str(end.started):
        return end
    peak, oom_kills = _memory(directory)
    return dataclasses.replace(end, memory_peak=peak, oom_kills=oom_kills)


def _memory(directory: str) -> tuple[int | None, int | None]:
    """Return the peak of memory in bytes and the number of processes killed for want of it."""
    events = cgroup.read(directory, "memory.events.local")
    if events is None:
        return None, None
    peak = cgroup.read(directory, "memory.peak")  # since Linux 5.19
    return int(peak) if peak else None, cgroup.keyed(events, "oom_kill")


def _runs(pid: int, start: str) -> bool:
    """Tell whether a process is the one that began then, and no zombie."""
    stat = (cgroup.read(f"/proc/{pid}", "stat") or "").rpartition(")")[2].split()
    return len(stat) > 19 and stat[19] == start and stat[0] not in "ZX"


def _owner(record: Mapping[str, str]) -> str:
    pid = record.get("OWNER_PID", "")
    return record.get("OWNER_UNIT", "") or (f"pid {pid}" if pid else "")
