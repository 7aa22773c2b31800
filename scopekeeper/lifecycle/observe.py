"""What can be known of a member that is about to end, or that has ended; reads, and tells.

The memory controller reaches into a member's own cgroup only where the member has limits of its
own. Where it does not, the scope's numbers are the member's if the scope was made for it alone, as
for a PTY run; in a cohort they may be another's, one's perhaps that is no longer there.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Collection, Mapping, Sequence

from scopekeeper.history.end import UNSEEN, End, cut_argv
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.usage import command_line
from scopekeeper.lifecycle import stop_mark
from scopekeeper.scope import names, record_parser
from scopekeeper.scope.reason import Cause, Reason, Stopper
from scopekeeper.scope.record_parser import ScopeRecord, StopMark
from scopekeeper.scope.records import ATTRIBUTE, CHILD, RecordError


def caller() -> Stopper:
    """Return who called this program: the process that asked for what it does."""
    parent = os.getppid() or os.getpid()  # a parent outside of our PID namespace reads as 0
    process = f"/proc/{parent}"
    try:
        command = (cgroupfs.read(process, "comm") or "").rstrip("\n")
        return Stopper(parent, os.stat(process).st_uid, command)
    except OSError:
        return Stopper(parent, os.getuid(), "")


def members(
    directory: str,
    scope: ScopeRecord | None,
    unit: str,
    *,
    leaf: str = "",
    found: Mapping[str, Sequence[int]] | None = None,
    arriving: bool = False,
    hidden: Collection[str] = (),
) -> list[End]:
    """Return the members of a scope, each as it would be told if nothing more became known.

    directory is the scope's, or with leaf that of one member; scope is the scope's record, None
    where that is damaged; found
    are the processes by directory, where they were read already. What carries no record that can
    be read is left out, and so, unless arriving, is a launch that is still on its way in. hidden
    are leaves in which something lives that found does not have.
    """
    if found is None:
        found = cgroupfs.processes_by_cgroup(directory)
    by_leaf = processes_by_leaf(directory, found, leaf=leaf)
    ends = []
    for name, pids in by_leaf.items():
        where = directory if leaf else f"{directory}/{name}"
        try:
            is_hidden = name in hidden
            end = _member(where, name, pids, scope, unit, arriving=arriving, hidden=is_hidden)
            alone = len(by_leaf) == 1 and not leaf
            if end is not None and end.oom_kills is None and alone and scope is not None:
                end = _with_memory_of(directory, scope, end)
        except (OSError, RecordError):
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

    Their reason is what the kernel or a stop that was killed still tells, else unknown.
    """
    unit = directory.rpartition("/")[2]
    try:
        scope = record_parser.scope(cgroupfs.attribute(directory, ATTRIBUTE), unit)
    except (OSError, RecordError):
        return []
    now = time.time_ns() // 1000
    _, killed = _memory(directory)
    ends = []
    for end in members(directory, scope, unit):
        is_over = not (end.processes or cgroupfs.is_populated(f"{directory}/{end.leaf}"))
        if is_over and only in ("", end.leaf):
            found = _told(end, directory, scope.mark, now)
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


def told(end: End, cause: Cause | None, ended: int, claim: str = "") -> End:
    """Return an end that nobody watched with the reason that can be proved of it.

    cause is that of a stop which did not see its end; claim is what only a record says.
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
    return with_claim(end, claim)


def with_claim(end: End, claim: str) -> End:
    """Return an end with what only a record says of it behind its evidence."""
    return dataclasses.replace(end, evidence=f"{end.evidence}; {claim}") if claim else end


def _told(end: End, scope_directory: str, of_scope: StopMark | None, now: int) -> End:
    leaf = f"{scope_directory}/{end.leaf}"
    of_member = None
    with contextlib.suppress(OSError, RecordError):
        of_member = record_parser.member(cgroupfs.attribute(leaf, ATTRIBUTE), end.leaf).mark
    cause = stop_mark.cause(leaf, of_member) or stop_mark.cause(scope_directory, of_scope)
    return told(end, cause, now, stop_mark.claim(of_member or of_scope))


def _member(
    directory: str,
    leaf: str,
    pids: Sequence[int],
    scope: ScopeRecord | None,
    unit: str,
    *,
    arriving: bool,
    hidden: bool,
) -> End | None:
    raw = cgroupfs.attribute(directory, ATTRIBUTE)
    if raw is None:
        return None
    record = record_parser.member(raw, leaf)
    pid = record.pid
    runs = pid in pids or (not pids and _runs(pid, record.start_time))
    if runs and not (pids or arriving or hidden):
        return None  # it has yet to move in, or it has moved out: it has not ended
    identity = scope.identity if scope is not None else record_parser.named(unit)
    argv = command_line(pid) if pid in pids or (runs and hidden) else None
    peak, oom_kills = _memory(directory)
    return End(
        member_id=leaf.rpartition(".")[2],
        started=record.started,
        ended=0,
        session=identity.session,
        lane=identity.lane,
        name=record.name,
        reason=Reason.UNKNOWN,
        evidence=UNSEEN,
        session_id=scope.session_id if scope is not None else "",
        run=identity.run,
        kind=record.kind,
        lifetime=record.lifetime,
        unit=unit,
        pid=None if record.joining == CHILD else pid,
        argv=cut_argv(argv) if argv and argv != [""] else (),
        owner=record.owner.label if record.owner.label != "-" else "",
        boot_id=record.owner.boot_id,
        memory_peak=peak,
        cpu_usec=cgroupfs.keyed(cgroupfs.read(directory, "cpu.stat"), "usage_usec"),
        oom_kills=oom_kills,
        processes=len(pids),
    )


def _with_memory_of(directory: str, scope: ScopeRecord, end: End) -> End:
    """Add the numbers of a scope that was made for this member alone."""
    if scope.kind != "pty" or scope.created != end.started:
        return end
    peak, oom_kills = _memory(directory)
    return dataclasses.replace(end, memory_peak=peak, oom_kills=oom_kills)


def memory_peak(directory: str) -> int | None:
    """Return the most memory that a member had, in bytes; None where that is not counted."""
    return _memory(directory)[0]


def _memory(directory: str) -> tuple[int | None, int | None]:
    """Return the peak of memory in bytes and the number of processes killed for want of it."""
    events = cgroupfs.read(directory, "memory.events.local")
    if events is None:
        return None, None
    peak = cgroupfs.read(directory, "memory.peak")  # since Linux 5.19
    return int(peak) if peak else None, cgroupfs.keyed(events, "oom_kill")


def _runs(pid: int, start_time: int) -> bool:
    """Tell whether a process is the one that began then, and no zombie."""
    stat = (cgroupfs.read(f"/proc/{pid}", "stat") or "").rpartition(")")[2].split()
    return len(stat) > 19 and stat[19] == str(start_time) and stat[0] not in "ZX"
