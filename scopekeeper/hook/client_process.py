"""Finds the client that called a hook, and waits for its end. Reads procfs, changes nothing."""

import os
import select
from collections.abc import Sequence
from dataclasses import dataclass, field

from scopekeeper.clients.format import Row
from scopekeeper.clients.identity import row_of, runs_one_command
from scopekeeper.kernel import proc

Ancestor = tuple[int, str, str]
"""A process above the hook: its pid, and its stat and cmdline in procfs."""


@dataclass(frozen=True, slots=True)
class ClientProcess:
    """A process, as it was when the hook began."""

    pid: int
    start_time: int
    is_known: bool
    """Whether it runs the client's program; else it is only the process that called the hook."""
    arguments: tuple[str, ...] = field(default=(), compare=False)
    """Its command line."""


def find(
    above: Sequence[Ancestor], table: Sequence[Row], client: str, variable: str
) -> ClientProcess | None:
    """Return the process of a client above its hook; None if the hook is not of this client.

    above are the processes over the hook, the nearest first. variable is a pid that the client
    claims to have. It counts if it is one of them: a variable is inherited further than it is true.
    """
    nearest = None
    for pid, text, command in above:
        stat, arguments = proc.Stat(text), command.split("\0")
        row = row_of(table, stat.name, arguments)
        if row is not None:
            known = ClientProcess(pid, stat.start_time, is_known=True, arguments=tuple(arguments))
            return known if row[0] == client else None
        if str(pid) == variable:
            return ClientProcess(pid, stat.start_time, is_known=False)
        if nearest is None and not runs_one_command(arguments):
            nearest = ClientProcess(pid, stat.start_time, is_known=False)
    return nearest


class Watch:
    """The end of a process, whatever gets its pid afterwards."""

    def __init__(self, process: ClientProcess) -> None:
        """Hold the process, if it runs; raises OSError."""
        self._pidfd = -1
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return
        # only now: no other process can have the pid from here on
        if not proc.runs(process.pid, process.start_time):
            os.close(self._pidfd)
            self._pidfd = -1

    def has_ended(self, seconds: float) -> bool:
        """Return whether it has ended, within some seconds from now."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(max(seconds, 0) * 1000))
