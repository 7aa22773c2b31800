"""Plays a scene at a real terminal, and prints the film as JSON: ``tests.pictures.record NAME``.

Everything that is shown was printed by the program that was called, when it was.
"""

import contextlib
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
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
BUSY = "while :; do for i in 1 2 3 4 5 6 7 8 9; do :; done; sleep 0.05; done"
HOLDS = "import time; held = bytearray({} << 20); time.sleep(1e6)"
LOOKED_AT = (
    ("agent:main:main", "main", "browser", "512M", [sys.executable, "-c", HOLDS.format(180)]),
    ("agent:main:main", "main", "time", "512M", ["sleep", "1000"]),
    ("agent:main:main", "cron", "report", None, ["sh", "-c", BUSY]),
    ("agent:spark:main", "main", "index", "256M", [sys.executable, "-c", HOLDS.format(60)]),
)
"""Session, lane, name, limit of the scope's memory, and command of each member that top shows."""
KEYS = (
    ("", "of a CPU", 2.0), ("j", "", 0.7), ("k", "", 0.7), ("m", "MEMBER", 3.0), ("M", "", 1.5),
    ("\r", "cgroup", 3.0), ("q", "of a CPU", 1.0), ("s", "stop it", 3.0), ("n", "nothing was", 1.0),
    ("?", "back; in the list", 3.0), ("q", "of a CPU", 1.0),
)  # fmt: skip
"""What is typed in top, what it shows then, and for how many seconds that is looked at."""


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
        self._wait_for(PROMPT, last=True)

    def do(self, line: str) -> None:
        """Type a line, wait until the shell asks for the next one, and give time to read."""
        for key in line:
            os.write(self._fd, key.encode())
            self._film_for(KEY_S)
        os.write(self._fd, b"\n")
        self._wait_for(PROMPT, last=True)
        self._film_for(0.4 if line.startswith("#") else LOOK_S)

    def watch(self, line: str, keys: Sequence[tuple[str, str, float]]) -> None:
        """Start a program that fills the screen, type keys, and leave it on the screen."""
        os.write(self._fd, line.encode() + b"\n")
        for key, shown, seconds in keys:
            os.write(self._fd, key.encode())
            self._wait_for(shown)
            self._film_for(seconds)

    def end(self) -> None:
        """End the shell."""
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._fd)
        os.waitpid(self.pid, 0)

    def _wait_for(self, text: str, *, last: bool = False) -> None:
        """Wait until the terminal shows a text, or shows it last."""
        seen, until = "", time.monotonic() + PATIENCE_S
        while not (seen.endswith(text) if last else text in seen):
            if time.monotonic() > until:
                raise TimeoutError(f"{text!r} did not come: {seen!r}")
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


def play_demo(film: Film, folder: Path) -> None:
    """Kill a gateway without scopekeeper, and one with it."""
    gateways(folder)
    os.mkfifo(folder / "input")
    held = os.open(folder / "input", os.O_RDWR)
    with _terminal(film, folder) as terminal:
        for line in SCENE:
            terminal.do(line)
    os.close(held)


def play_top(film: Film, folder: Path) -> None:
    """Look at scopes live."""
    for session, lane, name, most, command in LOOKED_AT:
        limit = ["--memory-max", most] if most else []
        argv = ["scopekeeper", "run", "-s", session, "-l", lane, "-n", name, *limit, "--", *command]
        subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    while (
        subprocess.run(["scopekeeper", "ls", "-n", LOOKED_AT[-1][2]], capture_output=True).stdout
        == b""
    ):
        time.sleep(0.1)
    with _terminal(film, folder) as terminal:
        terminal.watch("scopekeeper top", KEYS)
    subprocess.run(
        ["scopekeeper", "stop", "--all", "--grace", "0s"], check=False, stdout=subprocess.DEVNULL
    )


@contextlib.contextmanager
def _terminal(film: Film, folder: Path) -> Iterator[Terminal]:
    terminal = Terminal(film, os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}", "PS1": PROMPT, "TERM": "xterm-256color",
        "SCOPEKEEPER_STATE": str(folder / "state"), "LC_ALL": "C.UTF-8",
    })  # fmt: skip
    film.events.clear()
    film.began = time.monotonic()
    film.add(PROMPT)
    try:
        yield terminal
    finally:
        terminal.end()


SCENES = {"demo": play_demo, "top": play_top}


def main() -> int:
    """Play the scene of a name, and print the film."""
    film = Film()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        SCENES[sys.argv[1]](film, Path(name))
    print(json.dumps({"columns": COLUMNS, "lines": LINES, "events": film.events}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
