"""Processes that left the scope they were started in: find them and, if it is safe, end them."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence

from scopekeeper.data import dataclass, field, replace
from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.kernel.usage import command_line, describe
from scopekeeper.lifecycle.contradiction import contradiction
from scopekeeper.scope import marker, names, outside
from scopekeeper.scope.model import Identity, Member, Snapshot
from scopekeeper.scope.records import KINDS
from scopekeeper.scope.selection import Selector
from scopekeeper.systemd.logins import opened_by

_GRACE = 5.0

Living = Mapping[tuple[str, str], Member]
"""The members that live, by unit and leaf."""


@dataclass(frozen=True, slots=True)
class Escaped:
    """One process outside of the scope that its environment names."""

    pid: int
    uid: int
    start_time: str
    """Field 22 of proc_pid_stat(5)."""
    session: str
    lane: str
    scope: str
    leaf: str
    cgroup: str
    """Where it is now."""
    command: str
    is_over: bool
    """Whether its member has no process left."""
    in_service: bool
    """Whether it is in a service now, which somebody started on purpose."""
    is_marked: bool = True
    """Whether its environment names the scope; else only its parent did."""
    kind: str = ""
    """Of its member, '' if that is not known."""
    contradiction: str = ""
    """Why it may be another session's all the same; '' if nothing says so."""
    login: str = ""
    """The id of the login that it opened, as ``su -`` does; '' if none."""
    label: str = field(default="", compare=False)
    """The label of its scope, if that is still there and has one."""

    @property
    def program(self) -> str:
        """Its name for a log, which others may read: without its arguments."""
        return os.path.basename(self.command.partition(" ")[0]) or "?"

    @property
    def evidence(self) -> str:
        """Return a sentence: where it is, and whether its member still runs."""
        member = "its member is over" if self.is_over else "its member still runs"
        parts = (f"process {self.pid} is in {self.cgroup}", member, self.contradiction)
        return "; ".join(filter(None, parts))

    @property
    def why_not(self) -> str:
        """Why it may not be ended as a leftover; '' if it may."""
        if self.login:
            as_root = "sudo " if os.geteuid() else ""
            return f"it opened login {self.login}: {as_root}loginctl terminate-session {self.login}"
        if self.uid != os.geteuid() and os.geteuid():
            return "it is another user's"
        if self.in_service:
            return "it is in a service, which somebody started on purpose"
        if not self.is_marked:
            return "only its parent was in the scope, which proves too little"
        if self.contradiction:
            return self.contradiction
        return "" if self.is_over else "its member still runs"


def find(snapshot: Snapshot, uid: int | None) -> list[Escaped]:
    """Return the escaped processes of a uid (None: of everybody), sorted by pid.

    snapshot has the members that still live.
    """
    living = living_members(snapshot)
    labels = {scope.unit: scope.label for scope in snapshot.scopes if scope.label}
    found = (look(pid, uid, living) for pid in outside.pids())
    named = [replace(each, label=labels.get(each.scope, "")) for each in found if each is not None]
    return sorted(named, key=lambda each: each.pid)


def is_selected(each: Escaped, selector: Selector) -> bool:
    """Return whether a selector matches its session, or the label of that, and its lane."""
    names = (each.session, each.label) if each.label else (each.session,)
    return any(selector.matches_identity(Identity(name, each.lane)) for name in names)


def lives(each: Escaped) -> bool:
    """Return whether it still runs, as far as it can be read."""
    with contextlib.suppress(OSError):
        return proc.runs(each.pid, each.start_time)
    return False


def find_all(uid: int | None) -> list[Escaped]:
    """Return the same, each as if its member were over."""
    return [each for pid in outside.pids() if (each := look(pid, uid, {})) is not None]


def child_of(scope: str, leaf: str, pid: int, start_time: str) -> Escaped | None:
    """Return a process that was started by one in a scope or leaf; None if it has ended.

    start_time is the process's.
    """
    cgroup, named = cgroupfs.path_of(pid), names.parse_unit(scope)
    with contextlib.suppress(OSError):
        owner = os.stat(f"/proc/{pid}").st_uid
        if cgroup and named and proc.runs(pid, start_time):
            return Escaped(
                pid, owner, start_time, named[0], named[1], scope, leaf, cgroup,
                command=describe(pid), is_over=True, in_service=_is_service(cgroup),
                is_marked=False, login=opened_by(pid, cgroup),
            )  # fmt: skip
    return None


def _is_service(cgroup: str) -> bool:
    parts = cgroup.split("/")
    unit = next((p for p in reversed(parts) if p.endswith((".scope", ".service"))), "")
    return unit.endswith(".service") and not unit.startswith("user@")


def look(pid: int, uid: int | None, living: Living) -> Escaped | None:
    """Return a process if it has escaped, and is of this uid (None: anybody's)."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
        if uid is not None and owner != uid:
            return None
        found = marker.look_outside(pid)
        if found is None or not found.scope:
            return None
        start_time = proc.start_time(pid)
        scope, leaf = found.scope, found.value("MEMBER")
        member = living.get((scope, leaf))
        against = contradiction(found, member)
    except OSError:
        return None
    kind = member.kind if member is not None else found.value("KIND")
    return Escaped(
        pid,
        owner,
        start_time,
        found.value("SESSION"),
        found.value("LANE"),
        scope,
        leaf,
        found.cgroup,
        command=" ".join(command_line(pid) or []),
        is_over=member is None,
        in_service=_is_service(found.cgroup),
        kind=kind if kind in KINDS else "",
        contradiction=against,
        login=opened_by(pid, found.cgroup),
    )


def may_be_ended(each: Escaped) -> bool:
    """Return whether it is proved to be a leftover: its member is over, and it is in no service."""
    return not each.why_not


def living_members(snapshot: Snapshot) -> dict[tuple[str, str], Member]:
    """Return each living member by its unit and leaf."""
    return {
        (scope.unit, member.leaf): member
        for scope in snapshot.scopes
        for member in scope.living_members
    }


def end(escaped: Sequence[Escaped], living: Living, uid: int | None) -> dict[int, str]:
    """End the leftovers; returns for each pid ``terminated``, ``killed`` or ``changed``.

    living is as ``living_members`` returns it, of now. Check each again after its pidfd was opened,
    and signal only the pidfd.
    """
    outcomes = {}
    with contextlib.ExitStack() as closing:
        held = {}
        for each in escaped:
            outcomes[each.pid] = "changed"
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(each.pid)
                closing.callback(os.close, pidfd)
                again = look(each.pid, uid, living)
                if again == each and may_be_ended(again):
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                    held[pidfd] = each.pid
                    outcomes[each.pid] = "terminated"
        for pidfd in _left(held, _GRACE):
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                outcomes[held[pidfd]] = "killed"
        for _ in _left({fd: pid for fd, pid in held.items() if outcomes[pid] == "killed"}, _GRACE):
            pass
    return outcomes


def _left(held: dict[int, int], seconds: float) -> Iterator[int]:
    """Wait until all have ended; yield those that still run after so many seconds."""
    waiting = select.poll()
    left = set(held)
    for pidfd in left:
        waiting.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + seconds
    while left and (remaining := deadline - time.monotonic()) > 0:
        for pidfd, _ in waiting.poll(remaining * 1000):
            waiting.unregister(pidfd)
            left.discard(pidfd)
    yield from left
