"""Standard output and error of a command: safe for a terminal, and never the cause of a traceback.

- All text is made safe on its way out. What has to pass byte for byte is written to ``.buffer``.
- A closed descriptor 0, 1 or 2 becomes ``/dev/null``, before a file that is opened gets its number
  and is printed into.
- Output that cannot be written (a full disk) is reported once, on stderr. A command that shows
  something has failed then. One that does something goes on, and its exit status is that of what
  it did: who asks for a stop wants to know about the stop.
"""

import contextlib
import io
import os
import sys
from typing import TextIO

from scopekeeper.safe_text import safe_lines

NOBODY_READS = 141
"""Exit status as a shell has it of a process that SIGPIPE ended (128 + 13)."""


class Output(io.TextIOWrapper):
    """A text stream that escapes what a terminal would obey.

    forgiving: an error of writing is kept in ``problem`` and not raised. After one, everything
    more goes to ``/dev/null``.
    """

    def __init__(self, descriptor: int, like: TextIO | None, *, forgiving: bool) -> None:
        encoding = getattr(like, "encoding", None) or "utf-8"
        # as Python does: a terminal and stderr line by line, all else in large pieces
        lines = descriptor == 2 or os.isatty(descriptor)
        super().__init__(
            open(descriptor, "wb", closefd=False),  # noqa: SIM115  open until the process ends
            encoding="utf-8" if encoding.lower() in ("ascii", "us-ascii") else encoding,
            errors="backslashreplace",
            line_buffering=lines,
            write_through=lines,
        )
        self._descriptor = descriptor
        self.forgiving = forgiving
        self.problem: OSError | None = None

    def write(self, text: str, /) -> int:
        """Write text, made safe; return the length that it had."""
        try:
            super().write(safe_lines(text))
        except OSError as error:
            self.give_up(error)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            super().flush()
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """Write no more after an error; raise it unless that is forgiven."""
        if self.problem is None:
            self.problem = error
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, self._descriptor)  # where what is still buffered goes
            os.close(null)
        if not self.forgiving:
            raise error


def prepare(*, forgiving: bool) -> Output:
    """Make the standard streams safe to use, and return stdout; before any file is opened."""
    open_closed()
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = out = Output(1, sys.stdout, forgiving=forgiving)
    sys.stderr = Output(2, sys.stderr, forgiving=True)
    return out


def write_bytes(data: bytes) -> None:
    """Write to standard output as it is, and at once; raises OSError where that is not forgiven."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        if not isinstance(sys.stdout, Output):
            raise
        sys.stdout.give_up(error)


def open_closed() -> None:
    """Open ``/dev/null`` on each of the descriptors 0, 1 and 2 that is closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # the lowest number that is free, which is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def finish(out: Output, status: int) -> int:
    """Write what is buffered; return the exit status, which tells of lost output if that matters.

    A problem is looked for where it is kept: click answers a broken pipe with a status of its own.
    """
    with contextlib.suppress(OSError):
        out.flush()
    if out.problem is None:
        return status
    if isinstance(out.problem, BrokenPipeError):
        return status if out.forgiving else NOBODY_READS
    sys.stderr.write(f"scopekeeper: cannot write to standard output: {out.problem.strerror}\n")
    return status if out.forgiving else status or 1
