"""Wait for cgroups to become empty."""

import os
import select
import time
from collections.abc import Sequence

from scopekeeper.kernel import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class EmptinessWatch:
    """Waits until cgroups have no process left.

    The kernel raises POLLPRI on ``cgroup.events`` when a value in it changes.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._poll = select.poll()
        self._open: dict[int, str] = {}
        self._blind: set[str] = set()
        """Directories whose events cannot be read."""
        self.left: set[str] = set()
        """Directories that are not known to be empty."""
        for directory in directories:
            try:
                fd = _open(directory)
            except OSError as error:
                if error.errno in cgroupfs.GONE:
                    continue
                if isinstance(error, PermissionError):
                    self._blind.add(directory)
                    self.left.add(directory)
                    continue
                self.close()
                raise
            self._open[fd] = directory
            self.left.add(directory)
            self._poll.register(fd, select.POLLPRI)
            self._look(fd)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()

    def wait(self, seconds: float) -> set[str]:
        """Wait until all are empty or the time is over; return the others."""
        deadline = time.monotonic() + seconds
        self.left -= {each for each in self._blind if not cgroupfs.is_populated(each)}
        while self.left:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            for fd, _ in self._poll.poll(remaining * 1000):
                self._look(fd)
        return self.left

    def _look(self, fd: int) -> None:
        try:
            populated = b"populated 1" in os.pread(fd, 4096, 0)
        except OSError as error:
            if error.errno not in cgroupfs.GONE:
                raise
            populated = False
        if not populated:
            self.left.discard(self._open.pop(fd))
            self._poll.unregister(fd)
            os.close(fd)


def _open(directory: str) -> int:
    """Open ``cgroup.events``, even if a member has taken away our permission to read it."""
    path = f"{directory}/cgroup.events"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        cgroupfs.unlock(directory)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
