"""An observer that knows nothing of scopekeeper: it reads /proc and cgroupfs, and keeps pidfds.

Everything that a gateway starts can be told by one thing that reaches it: a folder with a name
that nobody else has, in PATH, which MCP clients do pass on. A process is held by a descriptor
that was opened first and looked at after, so that no number is ever mistaken for another's.
"""

import contextlib
import dataclasses
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests import folders

PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Process:
    """One process as it was when it was found."""

    pid: int
    fd: int
    parent: int
    session: int
    cgroup: str
    argv: tuple[str, ...]
    environment: dict[str, str]

    def lives(self) -> bool:
        """Tell whether it still runs; a pidfd becomes readable when its process ends."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return not poll.poll(0)

    def kill(self) -> None:
        """Send SIGKILL to it, and to nothing else."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, signal.SIGKILL)


def carriers(name: str, value: str) -> list[int]:
    """Return the pids of all processes with a variable of this value in their environment."""
    found = []
    for pid in pids():
        try:
            environment = _environment(Path(f"/proc/{pid}/environ").read_bytes())
        except OSError:
            continue  # gone, or another user's
        if environment.get(name) == value:
            found.append(pid)
    return found


def pids() -> list[int]:
    """Return the numbers of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


class Witness:
    """Finds every process with the mark in its PATH, and remembers all that it ever found."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.known: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def look(self) -> list[Process]:
        """Return the marked processes that live now."""
        held = {process.pid: process for process in self.known if process.lives()}
        for pid in pids():
            if pid == os.getpid():
                continue
            found = self._open(pid)
            if found is None:
                continue
            if pid in held and held[pid].lives():
                os.close(found.fd)
                found = dataclasses.replace(found, fd=held[pid].fd)  # it may have moved since
                self.known.remove(held[pid])
            self.known.append(found)
        return self.living()

    def living(self) -> list[Process]:
        """Return those of the processes found that still run, in the order of their pids."""
        return sorted((p for p in self.known if p.lives()), key=lambda p: p.pid)

    def end(self) -> int:
        """Kill every marked process that lives, forks in progress included; return how many."""
        killed = 0
        while processes := self.look():
            for process in processes:
                process.kill()
                killed += 1
            wait_for_end(processes, 60)
        for process in self.known:
            os.close(process.fd)
        self.known.clear()
        return killed

    def _open(self, pid: int) -> Process | None:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return None
        try:
            folder = Path("/proc") / str(pid)
            environment = _environment((folder / "environ").read_bytes())
            if self.mark in environment.get("PATH", "").split(":"):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                argv = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
                return Process(
                    pid, fd, int(stat[1]), int(stat[3]), cgroup_of(pid),
                    tuple(argv.split("\0")[:-1]), environment,
                )  # fmt: skip
        except (OSError, IndexError):
            pass
        os.close(fd)
        return None


def _environment(raw: bytes) -> dict[str, str]:
    entries = raw.decode("utf-8", "replace").split("\0")
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}


def wait_for_end(processes: list[Process], seconds: float) -> list[Process]:
    """Wait until the processes have ended, or the time is over; return those that have not."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if process.lives()]
    while left and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
        left = [process for process in left if process.lives()]
    return left


def cgroup_of(pid: int | str) -> str:
    """Return the path of a process in the cgroup2 hierarchy."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line[3:].rstrip("/")
    return ""


def mount_point() -> Path:
    """Return where the cgroup2 hierarchy is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(fields.split()[4])
    raise LookupError("no cgroup2 hierarchy is mounted")


def inhabitants(cgroup: str) -> dict[str, list[int]]:
    """Return the pids of every cgroup at and below a path, by its path; none where it is gone."""
    found = {}
    for folder in folders.below(mount_point() / cgroup.lstrip("/")):
        try:
            pids = (Path(folder) / "cgroup.procs").read_text().split()
        except OSError:
            continue  # removed meanwhile
        found["/" + os.path.relpath(folder, mount_point())] = [int(pid) for pid in pids]
    return found


def remove(folder: Path) -> None:
    """Remove a cgroup and all below it; kills what lives there."""
    (folder / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + 60
    while folder.is_dir() and time.monotonic() < deadline:
        if not folders.remove(folder):
            time.sleep(PAUSE_S)  # EBUSY until the dead are reaped
