"""Notices that the keeper does nothing with a request: it is stopped, or it hangs.

A keeper that is only slow uses the CPU, or waits for it or for a disk, and is waited for.
"""

import select
import time
from collections.abc import Callable

from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel.proc import cgroup_of
from scopekeeper.systemd.units import KEEPER, manager_uid

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

SECONDS = 5.0
"""How often to look at a keeper while a request waits, and how long one may be stopped that has to
answer at once."""
_LOOKS = 4
"""After so many looks at a keeper that does nothing it hangs: it may wait for a slow systemd."""
LONG = 18
"""Looks at a stopped keeper before the wait for an end of a run is given up: longer than systemd
takes to restart such a keeper (WatchdogSec=60), whose runs go on then."""
_BUSY = ("R", "D")
"""States of a process that waits for the CPU or for a disk (proc_pid_stat(5))."""
_STOPPED = ("T", "t")


class SilentError(ScopekeeperError):
    """The keeper runs and does not answer; restart it."""


def _always() -> bool:
    return True


class Silence:
    """Counts the looks at a keeper that sends nothing."""

    def __init__(self, pid: int, *, stopped: int = 1, is_due: Callable[[], bool] = _always) -> None:
        """Begin with a keeper that is not silent yet.

        pid is 0 for a keeper in another PID namespace, which is waited for. stopped is how many
        looks in a row may find it stopped. is_due returns whether it has something to send by now:
        until then it does not hang, though it does nothing.
        """
        self._pid = pid
        self._stopped_most = stopped
        self._is_due = is_due
        self._before = _activity(pid)
        self._stopped = self._idle = 0

    def look(self) -> None:
        """Look at it once more, SECONDS after the last look; raises SilentError."""
        now = _activity(self._pid)
        if now is None or now != self._before or now[0] in _BUSY:
            self._stopped = self._idle = 0
        elif self._is_due():
            self._idle += 1
        if now is not None and now[0] in _STOPPED:
            self._stopped += 1
        self._before = now
        if now is not None and (self._stopped >= self._stopped_most or self._idle >= _LOOKS):
            raise _silent(self._pid, now[0])


def await_answer(
    connection: "_socket.socket", silence: Silence, events: int = select.POLLIN
) -> None:
    """Wait until the keeper sends something or hangs up; raises SilentError.

    Raises TimeoutError after the timeout of the socket, if it has one. With events POLLOUT, waits
    until it takes something.
    """
    waiting = select.poll()
    waiting.register(connection, events)
    limit = connection.gettimeout()
    deadline = None if limit is None else time.monotonic() + limit
    while not waiting.poll(_milliseconds(deadline)):
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError("timed out")
        silence.look()


def _milliseconds(deadline: float | None) -> float:
    left = SECONDS if deadline is None else min(deadline - time.monotonic(), SECONDS)
    return max(left, 0.0) * 1000


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
