"""Checks and sorts descriptors that come from a client or back from the descriptor store."""

import os
import stat
from dataclasses import dataclass, field

from scopekeeper.errors import ConflictError
from scopekeeper.exec.run import Run
from scopekeeper.keeper.exec.held import Descriptors
from scopekeeper.kernel.peers import has_other_end
from scopekeeper.systemd.fdstore import DescriptorStore

_INPUT, _LEADER = "-in", "-leader"
"""Suffixes of names in the store; the other descriptors of a run are stored under its id."""

FDS_OF_RUN = 5
"""Master, two ends of the staging pipe, the leader's pidfd; one spare."""


def check(new: Run, descriptors: list[int]) -> None:
    """Check that the descriptors fit the run; raises ConflictError."""
    terminal = len(descriptors) == 1 and os.isatty(descriptors[0])
    pipes = len(descriptors) == 2 and all(stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in descriptors)
    if not (terminal if new.tty else pipes):
        raise ConflictError("a run needs the master of its terminal, or two pipes")


def check_leader(pid: int, pidfd: int) -> None:
    """Check that a pidfd is that of the process it came with; raises ConflictError.

    -1 means that there is none, which is valid. A process without a number was reaped: its client
    has given up before it could become a command.
    """
    if pidfd < 0:
        return
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith("Pid:")]
    if lines == [["Pid:", "-1"]]:
        raise ConflictError(f"the process {pid} has ended already")
    if lines != [["Pid:", str(pid)]]:
        raise ConflictError(f"the descriptor is no pidfd of {pid}")


def arrange(new: Run, descriptors: list[int]) -> Descriptors:
    """Return the descriptors to hold for a run; raises OSError."""
    if not new.tty:
        return Descriptors(descriptors[1], descriptors[0])
    fds = Descriptors(descriptors[0], descriptors[0])
    fds.stage()
    return fds


def keep(store: DescriptorStore, run_id: str, fds: Descriptors) -> None:
    """Put the descriptors of a run into the store."""
    store.put(run_id, [fd for fd in fds.all if fd != fds.input or fds.is_terminal])
    if not fds.is_terminal and fds.input >= 0:
        # under a name of its own: it can be closed before the others
        store.put(run_id + _INPUT, [fds.input])


def keep_leader(store: DescriptorStore, run_id: str, pidfd: int) -> None:
    """Put the pidfd of a run's command into the store."""
    store.put(run_id + _LEADER, [pidfd])


def drop_input(store: DescriptorStore, run_id: str) -> None:
    """Remove the input of a run from the store."""
    store.drop(run_id + _INPUT)


def drop(store: DescriptorStore, run_id: str) -> None:
    """Remove all descriptors of a run from the store."""
    for suffix in ("", _INPUT, _LEADER):
        store.drop(run_id + suffix)


@dataclass(slots=True)
class Stored:
    """Descriptors of one run that came back from the store."""

    descriptors: list[int] = field(default_factory=list)
    leader: int = -1

    @property
    def is_used(self) -> bool:
        """Whether a process has the other end open: the terminal, else one of the pipes."""
        terminals = [fd for fd in self.descriptors if os.isatty(fd)]
        return any(has_other_end(fd) for fd in terminals or self.descriptors)

    def close(self) -> None:
        """Close these copies; those in the store stay."""
        for fd in (*self.descriptors, self.leader):
            if fd >= 0:
                os.close(fd)
        self.descriptors, self.leader = [], -1


def sort(stored: dict[str, list[int]], store: DescriptorStore) -> dict[str, Stored]:
    """Sort descriptors from the store by the id of their run, and count them as stored."""
    found: dict[str, Stored] = {}
    for name, descriptors in stored.items():
        store.known(name, len(descriptors))
        run_id = name.partition("-")[0]
        mine = found.setdefault(run_id, Stored())
        if name == run_id + _LEADER and mine.leader < 0:
            mine.leader = descriptors[0]
            mine.descriptors += descriptors[1:]
        else:
            mine.descriptors += descriptors
    return found
