"""Notices that the keeper does nothing with a request: it is stopped, or it hangs.

A keeper that is only slow uses the CPU, or waits for it or for a disk, and is waited for.
"""

import select
import socket

from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel.proc import cgroup_of
from scopekeeper.systemd.units import KEEPER, manager_uid

SECONDS = 5.0
"""How long a keeper may do nothing while a request waits."""
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
    before = _activity(pid)
    while not waiting.poll(SECONDS * 1000):
        now = _activity(pid)
        if now is not None and now == before and now[0] not in _BUSY:
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
    what = "is stopped (SIGSTOP)" if is_stopped else f"has done nothing for {SECONDS:.0f} s"
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
