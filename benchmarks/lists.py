"""Measures what an operator looks at: scopes, processes, ports, ends."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.fleet import SYSTEMCTL
from benchmarks.launch import MODE, SCOPEKEEPER, fresh, ours
from benchmarks.measure import Command, Row, medians, spawn

LISTENING = ("/bin/sleep", "100000")
"""A member that holds a listening socket: its standard input is one."""
SS, JOURNALCTL, CGTOP = (
    shutil.which(each) or each for each in ("ss", "journalctl", "systemd-cgtop")
)


def looking(scopes: int, rounds: int) -> list[Row]:
    """Compare the lists with those of systemd and iproute2, of so many scopes with a port each."""
    life, one = fresh("looks"), fresh("look")
    sessions = [one, *(fresh("look") for _ in range(scopes - 1))]
    commands: dict[str, Command] = {
        "ls": lambda: [SCOPEKEEPER, "ls"],
        "tree": lambda: [SCOPEKEEPER, "ls", "--tree"],
        "ps": lambda: [SCOPEKEEPER, "ps", "-s", one],
        "ports": lambda: [SCOPEKEEPER, "ports"],
        "metrics": lambda: [SCOPEKEEPER, "metrics"],
        "cgtop": lambda: [CGTOP, "--raw", "--batch", "--iterations=1"],
        "units": lambda: [SYSTEMCTL, *MODE, "--no-pager", "list-units", "scopekeeper-*.scope"],
        "status": lambda: [SYSTEMCTL, *MODE, "--no-pager", "status", "scopekeeper-*.scope"],
        "one": lambda: [SYSTEMCTL, *MODE, "--no-pager", "status", _unit_of(one)],
        "ss": lambda: [SS, "-lptn"],
    }
    with _listening(sessions, life):
        found = medians(commands, rounds=rounds, block=2)
    after: dict[str, Command] = {
        "history": lambda: [SCOPEKEEPER, "history", "-n", str(scopes)],
        "journal": lambda: [JOURNALCTL, "--no-pager", "--lines", str(scopes)],
    }
    found |= medians(after, rounds=rounds, block=2)
    words = f"{scopes} scopes"
    return [
        Row(f"ls, {words}", found["ls"], "systemctl list-units", found["units"], None),
        Row(f"ls --tree, {words}", found["tree"], "systemctl status", found["status"], None),
        Row(f"ps of one session, of {words}", found["ps"], "systemctl status of the same",
            found["one"], None),
        Row(f"ports, {words}", found["ports"], "ss -lptn", found["ss"], None),
        Row(f"metrics, {words}", found["metrics"], "systemd-cgtop", found["cgtop"], None),
        Row(f"history, {scopes} ends", found["history"], "journalctl of as many lines",
            found["journal"], None),
    ]  # fmt: skip


@contextlib.contextmanager
def _listening(sessions: list[str], life: str) -> Iterator[None]:
    """Keep a member in a scope of each session, and stop them all in the end."""

    def start(session: str) -> subprocess.Popen[bytes]:
        with socket.create_server(("127.0.0.1", 0)) as port:
            argv = ours(session, "--session-id", life, command=LISTENING)
            member = subprocess.Popen(argv, stdin=port.fileno(), stdout=subprocess.DEVNULL)
        _until_it_runs(member)
        return member

    with ThreadPoolExecutor(8) as pool:
        members = list(pool.map(start, sessions))
    try:
        yield
        spawn([SCOPEKEEPER, "stop", "--session-id", life, "--grace", "0s"])
    finally:
        for member in members:
            member.kill()
            member.wait()


def _unit_of(session: str) -> str:
    """Return a pattern of the unit of a session; systemd escapes a dash."""
    return f"scopekeeper-{session.replace('-', '*')}-*.scope"


def _until_it_runs(member: subprocess.Popen[bytes]) -> None:
    while member.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # it has ended a moment ago
            if os.readlink(f"/proc/{member.pid}/exe") == os.path.realpath(LISTENING[0]):
                return
        time.sleep(0.001)
    raise RuntimeError(f"{member.args!r} did not start")
