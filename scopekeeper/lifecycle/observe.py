"""Reads what the history keeps of a member that is about to end, or has ended.

A member's own cgroup has a memory controller only if the member has limits of its own. Otherwise
the scope's numbers are used if the scope was made for this member alone, as for a PTY run. In a
cohort they may be those of another member, even of one that is gone.
"""

import contextlib
import os
import time
from collections.abc import Collection, Mapping, Sequence

from scopekeeper import keeper_address
from scopekeeper.data import replace
from scopekeeper.history.end import ENDED_BEFORE, UNSEEN, End, cut_argv
from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.kernel.terminals import terminal_of
from scopekeeper.kernel.usage import command_line, describe
from scopekeeper.lifecycle import oom, stop_mark
from scopekeeper.lifecycle.escaped import Escaped
from scopekeeper.lifecycle.stop_target import Remaining
from scopekeeper.scope import names, record_parser
from scopekeeper.scope.reason import Cause, Reason, Stopper
from scopekeeper.scope.record_parser import ScopeRecord, StopMark
from scopekeeper.scope.records import ATTRIBUTE, CHILD, PLACED, PLACING, RecordError
from scopekeeper.users import name_of

_NAME_MAX = 64
"""Characters of a user's name that are kept."""
_NAMED = 5
"""Processes that one end names, of those that had left the member."""


def caller() -> Stopper:
    """Return the process that called this program, as the one that asked for a stop."""
    return stopper(os.getppid() or os.getpid())  # a parent outside our PID namespace reads as 0


def stopper(pid: int) -> Stopper:
    """Describe a process as the one that asked for a stop."""
    try:
        return described(pid, os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        return described(pid, os.getuid())


def described(pid: int, uid: int) -> Stopper:
    """Return a process of this user with all that is visible of it now."""
    return Stopper(pid, uid, proc.comm(pid), name_of(uid)[:_NAME_MAX], terminal_of(pid))


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
    """Return the members of a scope, each as the End that it would have now.

    directory is the scope's, or with leaf that of one member; scope is the scope's record, None
    if damaged; found has the processes by directory, if they were read already; hidden are leaves
    with living processes that found lacks. Skips leaves without a readable record, and, unless
    arriving, launches that are still on their way in.
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
    """Group the processes of a scope by leaf; with leaf, directory is that leaf's."""
    by_leaf: dict[str, list[int]] = {}
    for path, pids in found.items():
        name = leaf or path[len(directory) + 1 :].partition("/")[0]
        if leaf or names.parse_leaf(name) is not None:
            by_leaf.setdefault(name, []).extend(pids)
    return by_leaf


def unseen(directory: str, only: str = "") -> list[End]:
    """Return the members of a scope that have no process left, or only the one in this leaf.

    The reason comes from the kernel or from a stop that was killed, else it is unknown.
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
            found = _with_marked_cause(end, directory, scope.mark, now)
            is_open = found.reason is Reason.UNKNOWN
            with_scope = oom.of_scope(directory, end) if killed and is_open else ""
            if with_scope:
                evidence = f"{UNSEEN}; {with_scope}"
                found = replace(found, reason=Reason.OOM_KILLED, evidence=evidence)
            elif killed and found.oom_kills is None:  # it is unknown which member they were of
                words = f"{found.evidence}; memory.events.local of its scope: oom_kill {killed}"
                found = replace(found, evidence=words)
            ends.append(found)
    return ends


def caused(end: End, cause: Cause, ended: int, processes: int = 0, killed: int = 0) -> End:
    """Return an end that was watched, with the cause that brought it about.

    processes is how many of it were seen until it was over, killed how many of these needed
    SIGKILL.
    """
    evidence = [cause.evidence] if cause.evidence else []
    if not end.argv:
        evidence.append(ENDED_BEFORE)
    return replace(
        end,
        ended=ended,
        reason=cause.reason,
        evidence="; ".join(evidence),
        stopper=cause.stopper,
        processes=max(end.processes or 0, processes, killed),
        killed=killed,
    )


def with_leavers(end: End, escaped: Sequence[Escaped], ended: Sequence[Escaped]) -> End:
    """Return an end that also says what had left the member, or its scope.

    escaped are those that live on, ended those that were ended as well.
    """
    said = (
        ("what had left it lives on", _named(end, escaped)),
        ("what had left it was ended too", _named(end, ended)),
    )
    texts = [f"{what}: {names}" for what, names in said if names]
    return replace(end, evidence="; ".join(filter(None, (end.evidence, *texts))))


def _named(end: End, escaped: Sequence[Escaped]) -> str:
    its = [each for each in escaped if each.leaf in ("", end.leaf)]
    shown = [f"{each.program} (pid {each.pid})" for each in its[:_NAMED]]
    more = f" and {len(its) - _NAMED} more" if len(its) > _NAMED else ""
    return ", ".join(shown) + more


def unwatched(end: End, cause: Cause | None, ended: int, claim: str = "") -> End:
    """Return an end that nobody watched, with the reason that can be proved.

    cause is that of a stop that did not see the end; claim is what only a record states.
    """
    end = replace(end, ended=ended, seen=False, reason=Reason.UNKNOWN, evidence=UNSEEN)
    if end.oom_kills:
        reason = Reason.OOM_KILLED
        evidence = f"{UNSEEN}; {oom.counted(end.oom_kills)}"
        return replace(end, reason=reason, evidence=evidence)
    if cause is not None:
        evidence = "; ".join(filter(None, (cause.evidence, UNSEEN)))
        return replace(end, reason=cause.reason, evidence=evidence, stopper=cause.stopper)
    return with_claim(end, claim)


def is_left_to_keeper(end: End, uid: int) -> bool:
    """Return whether a running keeper reports an unexplained end, in a scope of this uid.

    It may have seen the end, and knows in a few seconds what this process can never find out.
    """
    return end.reason is Reason.UNKNOWN and uid == os.geteuid() and keeper_address.runs()


def continued(end: End, moment: int, name: str) -> End:
    """Return the end of a member whose process went on as another one, which began at a moment.

    name is that of the other one, for people.
    """
    return replace(
        end,
        ended=moment,
        seen=True,
        reason=Reason.CONTINUED,
        evidence=f"as {name}",
        processes=None,  # none ended
    )


def with_claim(end: End, claim: str) -> End:
    """Return an end with the claim of a record appended to its evidence."""
    return replace(end, evidence=f"{end.evidence}; {claim}") if claim else end


def _with_marked_cause(end: End, scope_directory: str, of_scope: StopMark | None, now: int) -> End:
    leaf = f"{scope_directory}/{end.leaf}"
    of_member = None
    with contextlib.suppress(OSError, RecordError):
        of_member = record_parser.member(cgroupfs.attribute(leaf, ATTRIBUTE), end.leaf).mark
    by_oomd = oom.of_oomd(scope_directory, end.leaf)
    if by_oomd and not end.oom_kills:
        end = unwatched(end, None, now)
        evidence = f"{UNSEEN}; {by_oomd}"
        return replace(end, reason=Reason.OOM_KILLED, evidence=evidence)
    cause = stop_mark.cause(leaf, of_member) or stop_mark.cause(scope_directory, of_scope)
    return unwatched(end, cause, now, stop_mark.claim(of_member or of_scope))


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
    is_placed = record.joining in (PLACED, PLACING)
    if is_placed and not (pids or hidden):
        return None  # no process has come
    pid = record.pid
    runs = pid in pids or (not pids and proc.runs(pid, record.start_time))
    if runs and not (pids or arriving or hidden):
        return None  # it has yet to move in, or it has moved out: it has not ended
    identity = scope.identity if scope is not None else record_parser.named(unit)
    end = End(
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
        pid=None if is_placed or record.joining == CHILD else pid or None,
        owner=record.owner.label if record.owner.label != "-" else "",
        boot_id=record.owner.boot_id,
        label=scope.label if scope is not None else "",
    )
    return measured(end, directory, pids, pid if pid in pids or (runs and hidden) else None)


def measured(end: End, directory: str, pids: Sequence[int], leader: int | None) -> End:
    """Return an end with what the kernel knows of the member's cgroup and of its leader."""
    argv = command_line(leader) if leader else None
    peak, oom_kills = _memory(directory)
    return replace(
        end,
        argv=cut_argv(argv) if argv and argv != [""] else (),
        memory_peak=peak,
        cpu_usec=cgroupfs.keyed(cgroupfs.read(directory, "cpu.stat"), "usage_usec"),
        oom_kills=oom_kills,
        processes=len(pids),
    )


def _with_memory_of(directory: str, scope: ScopeRecord, end: End) -> End:
    """Add the memory numbers of the scope, if it was made for this member alone."""
    if scope.kind != "pty" or scope.created != end.started:
        return end
    peak, oom_kills = _memory(directory)
    return replace(end, memory_peak=peak, oom_kills=oom_kills)


def memory_peak(directory: str) -> int | None:
    """Return the peak of memory of a member in bytes; None if it is not counted."""
    return _memory(directory)[0]


def _memory(directory: str) -> tuple[int | None, int | None]:
    """Return the peak of memory in bytes and the number of OOM kills."""
    events = cgroupfs.read(directory, "memory.events.local")
    if events is None:
        return None, None
    peak = cgroupfs.read(directory, "memory.peak")  # since Linux 5.19
    return int(peak) if peak else None, cgroupfs.keyed(events, "oom_kill")


def unkillable(pid: int) -> Remaining:
    """Describe a process that cannot be killed; it may have ended since."""
    state, waits_in = "?", ""
    with contextlib.suppress(OSError):
        stat = proc.stat_of(pid)
        state = stat.state if stat is not None else "?"
        waits_in = proc.read(f"/proc/{pid}/wchan")
    return Remaining(pid, state, waits_in or "?", describe(pid))
