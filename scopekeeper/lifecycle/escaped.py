"""Processes that left the scope they were started in, by the marker in their environment.

A process of the same uid can leave its cgroup, and some do by themselves: a browser asks systemd
for a scope of its own. Its environment still says where it belongs.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.usage import command_line
from scopekeeper.scope import names
from scopekeeper.scope.model import Snapshot

_GRACE = 5.0
_MARKER = b"SCOPEKEEPER_MEMBER="
_CHUNK, _LONGEST = 1 << 16, 1 << 20
"""Bytes of an environment that are read at once, and at most; Linux allows 6 MiB."""


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
    """Whether nothing of its member lives any more."""
    in_service: bool
    """Whether a service has it now, which somebody else started on purpose."""

    @property
    def evidence(self) -> str:
        """Return in words where it is, and what became of its member."""
        member = "its member is over" if self.is_over else "its member still runs"
        return f"process {self.pid} is in {self.cgroup}; {member}"


def find(snapshot: Snapshot, uid: int | None) -> list[Escaped]:
    """Return the escaped processes of a uid, of everybody where it is None, by pid.

    snapshot says which members still live. Most processes are in a scope of ours, or of another
    uid: only the others' environment is read.
    """
    living = {
        (scope.unit, member.leaf) for scope in snapshot.scopes for member in scope.living_members
    }
    found = (_look(int(name), uid, living) for name in os.listdir("/proc") if name.isdigit())
    return sorted((each for each in found if each is not None), key=lambda each: each.pid)


def _look(pid: int, uid: int | None, living: set[tuple[str, str]]) -> Escaped | None:
    process = f"/proc/{pid}"
    try:
        owner = os.stat(process).st_uid
        if uid is not None and owner != uid:
            return None
        path = cgroupfs.path_of(pid)
        units = path.split("/")
        # in another scope of ours it is contained: that of a launch within its own, for instance
        if not path or any(names.parse_unit(unit) for unit in units):
            return None
        raw = _environment(process)
        if _MARKER not in raw:
            return None
        start_time = _start_time(pid)
    except OSError:
        return None
    told = dict(entry.split(b"=", 1) for entry in raw.split(b"\0") if b"=" in entry)
    scope, leaf, session, lane = (
        told.get(b"SCOPEKEEPER_" + key, b"").decode("utf-8", "surrogateescape")
        for key in (b"SCOPE", b"MEMBER", b"SESSION", b"LANE")
    )
    if not scope:
        return None
    unit = next((u for u in reversed(units) if u.endswith((".scope", ".service"))), "")
    in_service = unit.endswith(".service") and not unit.startswith("user@")
    command = " ".join(command_line(pid) or [])
    is_over = (scope, leaf) not in living
    return Escaped(
        pid, owner, start_time, session, lane, scope, leaf, path, command, is_over, in_service
    )


def may_be_ended(each: Escaped) -> bool:
    """Tell whether it is proved to be a leftover: its member is over, and nobody else has it."""
    return each.is_over and not each.in_service


def end(escaped: Sequence[Escaped], snapshot: Snapshot, uid: int) -> dict[int, str]:
    """End what may be ended; returns for each pid ``terminated``, ``killed`` or ``changed``.

    Each is looked at again after its pidfd was opened, and only the pidfd is signalled.
    """
    living = {
        (scope.unit, member.leaf) for scope in snapshot.scopes for member in scope.living_members
    }
    outcomes = {}
    with contextlib.ExitStack() as closing:
        held = {}
        for each in escaped:
            outcomes[each.pid] = "changed"
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(each.pid)
                closing.callback(os.close, pidfd)
                again = _look(each.pid, uid, living)
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
    """Wait until all have ended, and yield those that have not after so many seconds."""
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


def _environment(process: str) -> bytes:
    """Return the environment that a process was executed with, or the beginning of a long one."""
    raw = b""
    with open(f"{process}/environ", "rb", buffering=0) as file:
        while len(raw) < _LONGEST and (chunk := file.read(_CHUNK)):
            raw += chunk
    return raw


def _start_time(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[19]
