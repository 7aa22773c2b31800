"""Notices that the keeper does nothing with a request: it is stopped, or it hangs.

A keeper that is only slow uses the CPU, or waits for it or for a disk, and is waited for.
"""

import select
import socket

from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel.proc import cgroup_of
from scopekeeper.systemd.units import KEEPER, manager_uid

SECONDS = 5.0
"""How long a keeper may be stopped while a request waits, and how often to look at it."""
_LOOKS = 4
"""After so many looks at a keeper that does nothing it hangs: it may wait for a slow systemd."""
_BUSY = ("R", "D")
"""States of a process that waits for the CPU or for a disk (proc_pid_stat(5))."""
_STOPPED = ("T", "t")


class SilentError(ScopekeeperError):
    """The keeper runs and does not answer; restart it."""


def await_answer(connection: socket.socket, pid: int) -> None:
    """Wait until the keeper with this pid sends something or hangs up; raises SilentError.

    pid is 0 for a keeper in another PID namespace, which is waited for.
    """
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    before, idle = _activity(pid), 0
    while not waiting.poll(SECONDS * 1000):
        now = _activity(pid)
        if now is None or now != before or now[0] in _BUSY:
            idle = 0
        else:
            idle += 1
            if now[0] in _STOPPED or idle == _LOOKS:
                raise _silent(pid, now[0])
        before = now


def _activity(pid: int) -> tuple[str, int] | None:
    """Return the state of a process and its CPU time in clock ticks; None if it is not visible."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode("ascii"), int(fields[11]) + int(fields[12])
    except (OSError, ValueError, IndexError):
        return None


def _silent(pid: int, state: str) -> SilentError:
    is_stopped = state in _STOPPED
    what = (
        "is stopped (SIGSTOP)" if is_stopped else f"has done nothing for {_LOOKS * SECONDS:.0f} s"
    )
    try:
        path = cgroup_of(str(pid))
    except (OSError, LookupError):
        path = ""
    if path.rstrip("/").endswith(f"/{KEEPER}"):
        option = " --user" if manager_uid(path) else ""
        mend = f"restart it, commands go on: systemctl{option} restart {KEEPER}"
    elif is_stopped:
        mend = f"let it continue: kill -CONT {pid}"
    else:
        mend = f"end it, the next `exec` starts another: kill -KILL {pid}"
    return SilentError(f"the keeper (pid {pid}) {what} and does not answer", mend)
