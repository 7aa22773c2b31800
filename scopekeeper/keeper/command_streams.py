"""The standard streams of a command that is run for an event: a short input, a bounded output."""

import contextlib
import os
import select
import time
from types import TracebackType
from typing import Self

_LAST = 8192
"""Bytes of the output that are kept."""
_MOST = 1 << 20
"""Bytes that are read; a command that prints more waits until its time is over."""


class Streams:
    """A file with the input, and a pipe for both kinds of output; use it with ``with``."""

    def __init__(self, content: bytes) -> None:
        self.input = os.memfd_create("event", os.MFD_CLOEXEC)
        os.write(self.input, content)
        os.lseek(self.input, 0, os.SEEK_SET)
        self._ours, self.output = os.pipe2(os.O_CLOEXEC)
        self.last = b""
        """The last of the output that was read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.handed_over()
        os.close(self._ours)

    def handed_over(self) -> None:
        """Close what the command has by now."""
        for fd in (self.input, self.output):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self.input = self.output = -1

    def read(self, seconds: float, ended: int = -1) -> bool:
        """Read until nobody has the output any more; return False if that takes longer.

        ended: a pidfd; the end of that process is the end as well.
        """
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        if ended >= 0:
            poll.register(ended, select.POLLIN)
        count = 0
        while (left := deadline - time.monotonic()) > 0:
            for fd, event in poll.poll(left * 1000):
                if fd == ended:
                    self._drain()
                    return True
                if count >= _MOST:  # what is in the pipe stays there
                    if event & select.POLLHUP:
                        return True
                    continue
                chunk = os.read(self._ours, 1 << 16)
                if not chunk:
                    return True
                count += len(chunk)
                self._keep(chunk)
                if count >= _MOST:
                    poll.modify(self._ours, 0)
        return False

    def _drain(self) -> None:
        """Read what is in the pipe now."""
        os.set_blocking(self._ours, False)
        with contextlib.suppress(BlockingIOError):
            self._keep(os.read(self._ours, 1 << 16))

    def _keep(self, chunk: bytes) -> None:
        self.last = (self.last + chunk)[-_LAST:]
