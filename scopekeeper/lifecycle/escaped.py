"""Processes that left the scope they were started in: find them and, if it is safe, end them."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scopekeeper.kernel import proc
from scopekeeper.kernel.usage import command_line
from scopekeeper.scope import marker
from scopekeeper.scope.model import Snapshot

_GRACE = 5.0


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

    @property
    def evidence(self) -> str:
        """Return a sentence: where it is, and whether its member still runs."""
        member = "its member is over" if self.is_over else "its member still runs"
        return f"process {self.pid} is in {self.cgroup}; {member}"


def find(snapshot: Snapshot, uid: int | None) -> list[Escaped]:
    """Return the escaped processes of a uid (None: of everybody), sorted by pid.

    snapshot has the members that still live.
    """
    living = {
        (scope.unit, member.leaf) for scope in snapshot.scopes for member in scope.living_members
    }
    found = (_look(pid, uid, living) for pid in proc.pids())
    return sorted((each for each in found if each is not None), key=lambda each: each.pid)


def _look(pid: int, uid: int | None, living: set[tuple[str, str]]) -> Escaped | None:
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
        if uid is not None and owner != uid:
            return None
        found = marker.look_outside(pid)
        if found is None or not found.scope:
            return None
        start_time = proc.start_time(pid)
    except OSError:
        return None
    parts = found.cgroup.split("/")
    unit = next((p for p in reversed(parts) if p.endswith((".scope", ".service"))), "")
    scope, leaf = found.scope, found.value("MEMBER")
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
        is_over=(scope, leaf) not in living,
        in_service=unit.endswith(".service") and not unit.startswith("user@"),
    )


def may_be_ended(each: Escaped) -> bool:
    """Return whether it is proved to be a leftover: its member is over, and it is in no service."""
    return each.is_over and not each.in_service


def end(escaped: Sequence[Escaped], snapshot: Snapshot, uid: int) -> dict[int, str]:
    """End the leftovers; returns for each pid ``terminated``, ``killed`` or ``changed``.

    Check each again after its pidfd was opened, and signal only the pidfd.
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
