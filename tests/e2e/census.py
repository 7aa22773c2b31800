"""What runs, counted from /proc: servers, their helpers, the workers of commands, and where."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.machine import MOUNT, cgroup_of, environment_of, is_alive, record_of, text_of

SCRIPTS = {
    "everything": "/server-everything/dist/index.js",
    "files": "/server-filesystem/dist/index.js",
    "stub": "/stub_server.py",
    "stubborn": "/stub_server.py",
}


@dataclass(frozen=True, slots=True)
class Process:
    """One of ours: a server, a helper of the stub, or the worker of a command."""

    pid: int
    started: str
    kind: str
    """server, helper or worker"""
    name: str
    parent: str
    """of a helper: the pid of its server"""
    cgroup: str

    @property
    def scope(self) -> str:
        """The directory of the scope it is in, '' where it is in none of ours."""
        parts = self.cgroup.split("/")
        for number, part in enumerate(parts):
            if part.startswith("scopekeeper-") and part.endswith(".scope"):
                return MOUNT + "/".join(parts[: number + 1])
        return ""

    @property
    def session(self) -> str:
        """The session that the kernel has on record for it."""
        return record_of(self.scope).get("SESSION", "") if self.scope else ""

    @property
    def owner(self) -> str:
        """The unit that the kernel has on record as its owner."""
        return record_of(MOUNT + self.cgroup).get("OWNER_UNIT", "")

    @property
    def lives(self) -> bool:
        """Whether it still is this process."""
        return is_alive(self.pid) and start_of(self.pid) == self.started

    def end(self) -> None:
        """Kill it, if it still is this process."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.lives:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Census:
    """All of them at one moment."""

    found: tuple[Process, ...]

    def of(self, kind: str, name: str = "") -> tuple[Process, ...]:
        """Return those of a kind, or those of a kind and name."""
        return tuple(each for each in self.found if each.kind == kind and name in ("", each.name))

    def owned_by(self, unit: str) -> tuple[Process, ...]:
        """Return those that belong to a gateway."""
        return tuple(each for each in self.found if each.owner == unit)

    @property
    def count(self) -> tuple[int, int]:
        """Live cohorts (the most servers of one name), and helpers that outlived their server."""
        servers = Counter(each.name for each in self.of("server"))
        stubs = {str(each.pid) for each in self.of("server", "stub")}
        orphans = [each for each in self.of("helper") if each.parent not in stubs]
        return max(servers.values(), default=0), len(orphans)

    @property
    def sessions(self) -> list[str]:
        """The sessions of the live servers and helpers, each once, '' for those of none."""
        return sorted({each.session for each in (*self.of("server"), *self.of("helper"))})


def start_of(pid: int) -> str:
    """Return when a process started, in ticks since the boot; '' where it is gone."""
    fields = text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def words_of(pid: int) -> list[str]:
    """Return the arguments of a process."""
    return text_of(f"/proc/{pid}/cmdline").split("\0")[:-1]


def take() -> Census:
    """Count."""
    return Census(tuple(_all()))


def _all() -> Iterator[Process]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (made := _process(int(entry))):
            yield made


def _process(pid: int) -> Process | None:
    environment = environment_of(pid)
    words = words_of(pid)
    kind, name = _kind(environment, words)
    if not kind or not is_alive(pid):
        return None
    parent = environment.get("E2E_PARENT", "")
    return Process(pid, start_of(pid), kind, name, parent, cgroup_of(pid))


def _kind(environment: dict[str, str], words: list[str]) -> tuple[str, str]:
    if name := environment.get("E2E_HELPER"):
        return ("helper", name) if words[:1] == ["sleep"] else ("", "")
    # what relays a server to the gateway has the server's environment too
    if name := environment.get("E2E_SERVER"):
        is_server = len(words) > 1 and words[1].endswith(SCRIPTS[name])
        return ("server", name) if is_server else ("", "")
    if name := environment.get("E2E_WORKER"):
        return ("worker", name) if words[:1] == ["bash"] else ("", "")
    return "", ""
