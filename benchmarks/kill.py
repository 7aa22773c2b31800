"""Measures a kill: from the command, or from a gateway's death, until no process of a tree lives.

What is timed is seen from outside of the tree and of what ends it: the kernel reports on
``cgroup.events`` of the scope that it is empty.
"""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from benchmarks import keeper
from benchmarks.fleet import SYSTEMCTL
from benchmarks.launch import MODE, SCOPEKEEPER, fresh, ours
from benchmarks.measure import Grid, quantile, spawn_without_waiting
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point

GRACE = "200ms"
"""Between SIGTERM and the kill, of both: it ends what ignores SIGTERM and what is frozen."""
MANNERS = ("quiet", "ignores SIGTERM", "forks", "frozen")
_STOP, _GATEWAY, _SYSTEMCTL = "stop", "gateway killed", "systemctl stop"
_SEEN_SECONDS = 0.3
"""Until the keeper watches a new member and its gateway."""
_LONGEST = 60.0
"""Seconds that one kill may take."""

TREE = """\
import _signal, gc, posix, sys, time
count, manner = int(sys.argv[1]), sys.argv[2]
_signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
_signal.signal(_signal.SIGTERM, _signal.SIG_IGN if manner == "ignores SIGTERM" else _signal.SIG_DFL)
gc.freeze()

def stay(forks):
    while not forks:
        _signal.pause()
    while True:
        pid = posix.fork()
        if pid == 0:
            time.sleep(0.002)
            posix._exit(0)
        try:
            posix.waitpid(pid, 0)
        except OSError:
            pass

for number in range(1, count):
    if posix.fork() == 0:
        stay(manner == "forks" and number < 4)
posix.write(1, b"\\n")
stay(manner == "forks")
"""
"""So many processes. Up to four of them fork if that is their manner, each one child at a time."""


def killing(processes: int, rounds: int) -> Grid:
    """Compare the ways to end a tree of so many processes, in each manner, in turns."""
    times: dict[tuple[str, str], list[float]] = {}
    with keeper.running_keeper():
        for _ in range(rounds):
            for manner in MANNERS:
                for way in (_STOP, _GATEWAY, _SYSTEMCTL):
                    took = _kill(processes, manner, way)
                    times.setdefault((manner, way), []).append(took)
    rows = []
    for manner in MANNERS:
        stop, gateway, rival = (times[manner, way] for way in (_STOP, _GATEWAY, _SYSTEMCTL))
        ratio = quantile(stop, 0.5) / quantile(rival, 0.5)
        rows.append([manner, *map(_spread, (stop, gateway, rival)), f"{ratio:.2f}"])
    headers = [f"{processes} processes", "`stop`", "a gateway's SIGKILL, by the keeper",
               "`systemctl stop`", "the first : the last"]  # fmt: skip
    return Grid(headers, rows, f"p50 / p95 / max of {rounds}, in ms")


def _spread(times: Sequence[float]) -> str:
    return " / ".join(f"{quantile(times, part):.1f}" for part in (0.5, 0.95, 1.0))


def _kill(processes: int, manner: str, way: str) -> float:
    """Start a tree, end it in a way, and return the milliseconds until it is empty."""
    with contextlib.ExitStack() as closing:
        options: list[str] = []
        owner = None
        if way == _GATEWAY:
            owner = closing.enter_context(_gateway())
            options = ["--owner", str(owner.pid)]
        tree = closing.enter_context(_started(processes, manner, options))
        if owner is not None:
            time.sleep(_SEEN_SECONDS)
        events = closing.enter_context(_Events(tree.scope))
        began = time.perf_counter()
        pid = 0
        if owner is not None:
            owner.kill()
        elif way == _STOP:
            pid = spawn_without_waiting([SCOPEKEEPER, "stop", "-s", tree.session])
        else:
            pid = spawn_without_waiting([SYSTEMCTL, *MODE, "stop", os.path.basename(tree.scope)])
        events.wait_for("populated 0")
        took = (time.perf_counter() - began) * 1000
        if pid and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
            raise RuntimeError(f"{way} of {tree.scope} failed")
        _await_removal(tree.scope)
        return took


@dataclass(frozen=True, slots=True)
class _Tree:
    session: str
    scope: str
    """The directory of its scope."""


@contextlib.contextmanager
def _gateway() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def _started(processes: int, manner: str, options: Sequence[str]) -> Iterator[_Tree]:
    """Start a tree in a scope of its own; whatever happens, all of it is ended."""
    session = fresh("kill")
    command = [sys.executable, "-IS", "-c", TREE, str(processes), manner]
    argv = ours(session, "--grace", GRACE, *options, command=command)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as member:
        assert member.stdout is not None
        try:
            member.stdout.readline()
            leaf = mount_point() + cgroupfs.path_of(member.pid)
            scope = os.path.dirname(leaf)
            if not scope.endswith(".scope"):
                raise RuntimeError(f"{member.args!r} did not start")
            if manner == "frozen":
                with _Events(leaf) as events:
                    cgroupfs.write(leaf, "cgroup.freeze", "1")
                    events.wait_for("frozen 1")
            try:
                yield _Tree(session, scope)
            finally:
                cgroupfs.kill(scope)
        finally:
            member.kill()


class _Events:
    """Waits for a value in ``cgroup.events``; a removed cgroup is empty."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLPRI)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def wait_for(self, value: str) -> None:
        """Wait until the kernel reports this value."""
        deadline = time.monotonic() + _LONGEST
        while value not in self._values():
            left = deadline - time.monotonic()
            if left <= 0:
                raise RuntimeError(f"{self._directory} has no {value!r} after {_LONGEST:.0f} s")
            self._poll.poll(left * 1000)

    def _values(self) -> str:
        try:
            return os.pread(self._fd, 4096, 0).decode()
        except OSError as error:
            if error.errno not in cgroupfs.GONE:
                raise
            return "populated 0"


def _await_removal(scope: str) -> None:
    """Wait until the scope is removed, so that the next round has none of its work."""
    deadline = time.monotonic() + _LONGEST
    while os.path.isdir(scope):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{scope} was not removed")
        time.sleep(0.005)
