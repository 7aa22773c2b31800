"""Plays a scene at a real terminal, and prints the film as JSON: ``tests.pictures.record``.

Everything that is shown was printed by the program that was called, when it was.
"""

import json
import os
import pty
import select
import shutil
import signal
import struct
import sys
import tempfile
import termios
import time
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

from tests.gateway import drive

COLUMNS, LINES = 80, 24
PROMPT = "\x1b[1;32m$\x1b[0m "
KEY_S, LOOK_S, PATIENCE_S = 0.03, 1.3, 60.0
SESSION = "agent:main:main"
SCENE = (
    "# An agent gateway starts nine MCP servers, and is killed:",
    "gateway & sleep 6",
    "kill -KILL $!; sleep 2; ps -ef | grep -c '[m]cp-server'",
    "# The same gateway, with each server behind `scopekeeper run`:",
    "contained-gateway & sleep 7",
    "scopekeeper ls",
    "kill -KILL $!; sleep 2; scopekeeper ls",
    "scopekeeper reconcile",
    "scopekeeper ls",
)
"""What is typed. A line with # is for those who look on."""


@dataclass
class Film:
    """What a terminal of COLUMNS and LINES printed, and when."""

    began: float = field(default_factory=time.monotonic)
    events: list[tuple[float, str]] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Add output of now."""
        self.events.append((round(time.monotonic() - self.began, 3), text))


class Terminal:
    """A shell at a terminal whose output is filmed."""

    def __init__(self, film: Film, environment: dict[str, str]) -> None:
        self._film = film
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
        ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._wait_for_prompt()

    def do(self, line: str) -> None:
        """Type a line, wait until the shell asks for the next one, and give time to read."""
        for key in line:
            os.write(self._fd, key.encode())
            self._film_for(KEY_S)
        os.write(self._fd, b"\n")
        self._wait_for_prompt()
        self._film_for(0.4 if line.startswith("#") else LOOK_S)

    def end(self) -> None:
        """End the shell."""
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._fd)
        os.waitpid(self.pid, 0)

    def _wait_for_prompt(self) -> None:
        seen, until = "", time.monotonic() + PATIENCE_S
        while not seen.endswith(PROMPT):
            if time.monotonic() > until:
                raise TimeoutError(f"no prompt came: {seen!r}")
            seen += self._film_for(0.05)

    def _film_for(self, seconds: float) -> str:
        until, seen = time.monotonic() + seconds, ""
        while (left := until - time.monotonic()) > 0:
            if select.select([self._fd], [], [], left)[0]:
                text = os.read(self._fd, 65536).decode(errors="replace")
                self._film.add(text)
                seen += text
        return seen


def gateways(folder: Path) -> None:
    """Put the two gateways of the scene into a folder."""
    repository = drive.repository(folder / "repository")
    for name, option in (("gateway", "--bare"), ("contained-gateway", "")):
        path = folder / name
        # its input never ends, or the gateway would
        path.write_text(
            "#!/bin/sh\n"
            f"exec {sys.executable} {drive.GATEWAY} -s {SESSION} -l main "
            f"--repository {repository} {option} < {folder}/input > /dev/null 2>&1\n"
        )
        path.chmod(0o755)


def main() -> int:
    """Play the scene, and print the film."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gateways(folder)
        os.mkfifo(folder / "input")
        held = os.open(folder / "input", os.O_RDWR)
        film = Film()
        terminal = Terminal(film, os.environ | {
            "PATH": f"{folder}:{os.environ['PATH']}", "PS1": PROMPT, "TERM": "xterm-256color",
            "SCOPEKEEPER_STATE": str(folder / "state"),
        })  # fmt: skip
        try:
            film.events.clear()
            film.began = time.monotonic()
            film.add(PROMPT)
            for line in SCENE:
                terminal.do(line)
        finally:
            terminal.end()
            os.close(held)
            shutil.rmtree(folder / "repository", ignore_errors=True)
    print(json.dumps({"columns": COLUMNS, "lines": LINES, "events": film.events}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
