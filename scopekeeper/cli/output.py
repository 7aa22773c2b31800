"""Standard output and error of a command: safe for a terminal, and never the cause of a traceback.

- All text is escaped on its way out. Raw bytes go to ``.buffer``.
- A closed descriptor 0, 1 or 2 is opened on ``/dev/null``. Otherwise the next file to be opened
  would get that number, and the command would print into it.
- Output that cannot be written (a full disk) is reported once, on stderr. A command that shows
  something fails then. A command that acts goes on, and its exit status is that of the action.
"""

import contextlib
import io
import os
import sys

from scopekeeper.cli.colour import PAINTED
from scopekeeper.safe_text import safe_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

NOBODY_READS = 141
"""The exit status that a shell reports for a process ended by SIGPIPE (128 + 13)."""


class Output(io.TextIOWrapper):
    """A text stream that escapes control characters.

    The first write error is kept in ``problem``; later output goes to ``/dev/null``. The error is
    raised unless forgiving.
    """

    def __init__(self, descriptor: int, like: "TextIO | None", *, forgiving: bool) -> None:
        encoding = getattr(like, "encoding", None) or "utf-8"
        # as Python does: a terminal and stderr are line buffered, all else is block buffered
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
        """Write the text escaped; return its length before escaping."""
        self._write(safe_lines(text))
        return len(text)

    def write_painted(self, text: str) -> None:
        """Write the text escaped, except the sequences that set one of our colours."""
        import re  # few lines are painted, and it takes as long as the interpreter

        pieces = re.split(f"({PAINTED})", text)
        self._write("".join(x if at % 2 else safe_lines(x) for at, x in enumerate(pieces)))

    def _write(self, safe_text: str) -> None:
        try:
            super().write(safe_text)
        except OSError as error:
            self.give_up(error)

    def flush(self) -> None:
        """Write buffered text."""
        try:
            super().flush()
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """Send all later output to ``/dev/null``; raise the error unless forgiving."""
        if self.problem is None:
            self.problem = error
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, self._descriptor)  # buffered text goes there too
            os.close(null)
        if not self.forgiving:
            raise error


def prepare(*, forgiving: bool) -> Output:
    """Replace the standard streams, and return stdout. Call it before opening any file."""
    open_closed()
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = out = Output(1, sys.stdout, forgiving=forgiving)
    sys.stderr = Output(2, sys.stderr, forgiving=True)
    return out


def write_bytes(data: bytes) -> None:
    """Write raw bytes to standard output and flush; raises OSError unless stdout is forgiving."""
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
            # open() returns the lowest free number, which is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def finish(out: Output, status: int) -> int:
    """Flush, and return the exit status; lost output changes it unless stdout is forgiving.

    This reads ``problem``, because click turns a broken pipe into an exit status of its own.
    """
    with contextlib.suppress(OSError):
        out.flush()
    if out.problem is None:
        return status
    if isinstance(out.problem, BrokenPipeError):
        return status if out.forgiving else NOBODY_READS
    sys.stderr.write(f"scopekeeper: cannot write to standard output: {out.problem.strerror}\n")
    return status if out.forgiving else status or 1
