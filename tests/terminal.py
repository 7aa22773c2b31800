"""A terminal that a test types into and reads from."""

import contextlib
import os
import pty
import re
import select
import signal
import time

from tests.machine import PATIENCE, state_of


class Terminal:
    """A terminal with a command as its session leader.

    program is what to execute, if it is not the first word.
    """

    def __init__(
        self, argv: list[str], program: str = "", environment: dict[str, str] | None = None
    ) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            variables = {**os.environ, "PS1": "$ ", **(environment or {})}
            os.execvpe(program or argv[0], argv, variables)
        self.seen = ""

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.fd, text.encode())

    def expect(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Wait until the terminal shows a pattern, and discard everything up to its end."""
        deadline = time.monotonic() + patience
        while True:
            match = re.search(pattern, self.seen)
            if match:
                self.seen = self.seen[match.end() :]
                return match
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} did not come; it shows {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"it ended, and showed {self.seen!r}") from None

    def type_until(self, text: str, pattern: str) -> None:
        """Type something until a pattern is shown: less drops what comes while it redraws."""
        for _ in range(10):
            self.type(text)
            with contextlib.suppress(AssertionError):
                self.expect(pattern, PATIENCE / 10)
                return
        raise AssertionError(f"{pattern!r} did not come; it shows {self.seen!r}")

    def status(self) -> int:
        """Wait for the end of the session leader and return its exit status."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """Hang up."""
        os.close(self.fd)

    def end(self) -> None:
        """Hang up, and end the command itself."""
        self.close()
        if state_of(self.pid):
            os.kill(self.pid, signal.SIGKILL)
            self.status()
