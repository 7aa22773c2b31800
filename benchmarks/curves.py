"""``python -m benchmarks.curves``: what 100 to 10,000 scopes cost, beside systemd's own.

Every cost is CPU time, which other work on the machine changes little: of the command itself and of
the systemd and the keeper that work for it. Prints the figures of each step, and in the end all of
them as one line of JSON; with ``--from``, draws the pictures and the table of
``docs/performance.md`` from such a line.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks import curves_drawn
from benchmarks.alone import alone
from benchmarks.fleet import SYSTEMCTL
from benchmarks.keeper import manager, pss, running_keeper, wake_ups
from benchmarks.launch import MODE, SCOPEKEEPER, ours

STEPS = (100, 300, 1000, 3000, 10_000)
MEMBER = ("/bin/sleep", "infinity")
"""The smallest member: some 0.2 MiB each."""
_LIFE = "curves"
_WORKERS, _ROUNDS, _EVENTS = 4, 5, 10
_QUIET_SECONDS = 2.0
_GROWTH = 1.4
"""The power of the number of scopes with which a step takes longer: systemd is not linear."""
Figures = dict[str, float]
Step = dict[str, Figures]


def main() -> int:
    """Read the options; measure in a service of its own, or draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=__doc__)
    parser.add_argument("--most", type=int, default=STEPS[-1], help="scopes of the last step")
    parser.add_argument("--minutes", type=float, default=15.0, help="leave out a step that is "
                        "not over by then, if it takes as the last one did")  # fmt: skip
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to count wake-ups")
    parser.add_argument("--here", action="store_true", help="not in a service of its own")
    parser.add_argument("--from", dest="source", metavar="FILE", help="draw from these figures")
    options = parser.parse_args()
    if options.source:
        return curves_drawn.draw(options.source)
    if not SCOPEKEEPER or not Path("/run/systemd/system").exists():
        print("curves: needs scopekeeper on the PATH and systemd as PID 1", file=sys.stderr)
        return 2
    if not options.here:
        return alone([sys.executable, "-m", "benchmarks.curves", "--here", *sys.argv[1:]])
    steps: dict[int, Step] = {}
    first = took = 0.0
    with tempfile.TemporaryDirectory() as state:
        os.environ["SCOPEKEEPER_STATE"] = state  # one for the keeper and for all commands
        until = time.monotonic() + options.minutes * 60
        for scopes in (each for each in STEPS if each <= options.most):
            began = time.monotonic()
            grows = (scopes / max(steps)) ** _GROWTH if steps else 1.0
            if began + first + (took - first) * grows > until:
                print(f"{scopes} scopes: left out, they would take longer than --minutes")
                break
            steps[scopes] = {"ours": _ours(scopes, options.idle), "systemd": _systemd(scopes)}
            took = time.monotonic() - began
            first = first or took  # most of it is waiting until the keeper is quiet
            _show(scopes, steps[scopes])
    print(json.dumps({"machine": _machine(), "steps": steps}))
    return 0


def _machine() -> dict[str, str]:
    version = subprocess.check_output([SYSTEMCTL, "--version"], text=True).split()[1]
    return {
        "systemd": version,
        "linux": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "processors": str(os.cpu_count()),
        "user": "root" if os.geteuid() == 0 else "a user",
    }


def _show(scopes: int, step: Step) -> None:
    for who, figures in step.items():
        words = ", ".join(f"{what} {value:.6g}" for what, value in figures.items())
        print(f"{scopes} scopes, {who}: {words}", flush=True)


def _ours(scopes: int, idle: float) -> Figures:
    """Make so many scopes, one of each session, measure, and stop them."""
    found: Figures = {}
    sessions = [f"curve-{number}" for number in range(scopes)]
    with _members() as launch:
        with running_keeper() as keeper:
            commands = [ours(x, "--session-id", _LIFE, command=MEMBER) for x in sessions]
            found |= _launched(launch, commands, keeper)
            _until_quiet(keeper)
            found["memory_mib"] = pss(keeper)
            found["descriptors"] = len(os.listdir(f"/proc/{keeper}/fd"))
            found["wake_ups"] = wake_ups(keeper, idle) * 60 / idle
            found["event_keeper_ms"] = _event(sessions[0], keeper)
        with running_keeper() as keeper:  # it finds them all
            _until_quiet(keeper)
            found["start_ms"] = _cpu_ms(keeper)
            found |= _looks(
                ls=[SCOPEKEEPER, "ls"],
                ls_one=[SCOPEKEEPER, "ls", "-s", sessions[0]],
                why_one=[SCOPEKEEPER, "why", "-s", sessions[0]],
                reconcile=[SCOPEKEEPER, "reconcile"],
                run_one=[SCOPEKEEPER, "run", "-s", "curve-beside", "--", "/bin/true"],
            )
            one = iter(sessions)
            stops = [_Cost([SCOPEKEEPER, "stop", "-s", next(one)], keeper) for _ in range(_ROUNDS)]
            found |= _medians("stop_one", stops)
            found |= _calls("stop_one", [SCOPEKEEPER, "stop", "-s", next(one)])
            _until_quiet(keeper)
            every = _Cost([SCOPEKEEPER, "stop", "--session-id", _LIFE], keeper)
            found |= _medians("stop_all", [every])
            before = _cpu_ms(keeper)
            _until_quiet(keeper)
            found["stop_all_keeper_ms"] = every.keeper_ms + _cpu_ms(keeper) - before
    return found


def _systemd(scopes: int) -> Figures:
    """Measure the same of as many scopes of ``systemd-run --scope``."""
    found: Figures = {}
    units = [f"curve-{number}.scope" for number in range(scopes)]
    program = shutil.which("systemd-run") or "systemd-run"
    start = [program, *MODE, "--scope", "--quiet", "--collect"]
    systemctl = [SYSTEMCTL, *MODE, "--no-pager"]
    with _members() as launch:
        found |= _launched(launch, [[*start, f"--unit={x}", "--", *MEMBER] for x in units])
        found |= _looks(
            ls=[*systemctl, "list-units", "curve-*.scope"],
            ls_one=[*systemctl, "list-units", units[0]],
            why_one=[*systemctl, "status", units[0]],
            run_one=[*start, "--", "/bin/true"],
        )
        one = iter(units)
        stops = [_Cost([*systemctl, "stop", next(one)]) for _ in range(_ROUNDS)]
        found |= _medians("stop_one", stops)
        found |= _calls("stop_one", [*systemctl, "stop", next(one)])
        found |= _medians("stop_all", [_Cost([*systemctl, "stop", "curve-*.scope"])])
        found["memory_mib"] = pss(manager())
    return found


class _Cost:
    """What one command costs: its own CPU time, and that of systemd and of the keeper for it."""

    def __init__(self, argv: Sequence[str], keeper: int = 0) -> None:
        systemd = manager()
        before = _cpu_ms(systemd), _cpu_ms(keeper)
        began = time.perf_counter()
        usage = os.wait4(_spawn(argv), 0)[2]
        self.wall_ms = (time.perf_counter() - began) * 1000
        self.own_ms = (usage.ru_utime + usage.ru_stime) * 1000
        self.systemd_ms = _cpu_ms(systemd) - before[0]
        self.keeper_ms = _cpu_ms(keeper) - before[1]


def _medians(what: str, costs: Sequence[_Cost]) -> Figures:
    keys = ("own_ms", "systemd_ms", "wall_ms")
    return {
        f"{what}_{key}": statistics.median(getattr(each, key) for each in costs) for key in keys
    }


def _looks(**commands: Sequence[str]) -> Figures:
    """Measure commands that change nothing that is measured later."""
    found: Figures = {}
    for what, argv in commands.items():
        rounds = 2 if what in ("ls", "reconcile") else _ROUNDS
        found |= _medians(what, [_Cost(argv) for _ in range(rounds)])
        found |= _calls(what, argv)
    return found


def _calls(what: str, argv: Sequence[str]) -> Figures:
    """Count the system calls of a command, and the files that it opens; none without strace."""
    strace = shutil.which("strace")
    if strace is None:
        return {}
    with tempfile.NamedTemporaryFile("r") as file:
        os.wait4(_spawn([strace, "-f", "-qq", "-c", "-o", file.name, *argv]), 0)
        rows = [line.split() for line in file.read().splitlines()]
    counts = {row[-1]: int(row[3]) for row in rows if len(row) > 4 and row[3].isdecimal()}
    total = counts.pop("total", 0)
    opened = sum(counts.get(name, 0) for name in ("open", "openat", "openat2"))
    return {f"{what}_calls": total, f"{what}_opened": opened}


Launch = Callable[[Sequence[Sequence[str]]], list[int]]


@contextmanager
def _members() -> Iterator[Launch]:
    """Yield what starts members and returns their pids; kill and reap them in the end."""
    started: list[int] = []

    def one(argv: Sequence[str]) -> int:
        pid = _spawn(argv)
        started.append(pid)
        _until_it_runs(pid)
        return pid

    def launch(commands: Sequence[Sequence[str]]) -> list[int]:
        with ThreadPoolExecutor(_WORKERS) as pool:
            return list(pool.map(one, commands))

    try:
        yield launch
    finally:
        for pid in started:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, 9)
                os.waitpid(pid, 0)


def _launched(launch: Launch, commands: Sequence[Sequence[str]], keeper: int = 0) -> Figures:
    """Start members; a launch is the process that the command becomes."""
    systemd = manager()
    before = _cpu_ms(systemd), _cpu_ms(keeper)
    began = time.perf_counter()
    pids = launch(commands)
    seconds = time.perf_counter() - began
    count = len(commands)
    return {
        "launch_own_ms": sum(map(_cpu_ms, pids)) / count,
        "launch_systemd_ms": (_cpu_ms(systemd) - before[0]) / count,
        "launch_keeper_ms": (_cpu_ms(keeper) - before[1]) / count,
        "launches_a_second": count / seconds,
    }


def _event(session: str, keeper: int) -> float:
    """Return the CPU time of the keeper for a member that comes and goes, in milliseconds."""
    before = _cpu_ms(keeper)
    for _ in range(_EVENTS):
        os.wait4(_spawn(ours(session, "-n", "event", command=("/bin/true",))), 0)
        time.sleep(0.2)
    _until_quiet(keeper)
    return (_cpu_ms(keeper) - before) / _EVENTS


def _spawn(argv: Sequence[str]) -> int:
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    return os.posix_spawn(argv[0], list(argv), os.environ, file_actions=quiet)


def _until_it_runs(pid: int) -> None:
    wanted = os.path.realpath(MEMBER[0])
    while os.readlink(f"/proc/{pid}/exe") != wanted:
        time.sleep(0.002)


def _until_quiet(pid: int) -> None:
    """Wait until a process has had nothing to do for a while."""
    while wake_ups(pid, _QUIET_SECONDS):
        pass


def _cpu_ms(pid: int) -> float:
    """Return the CPU time of a process with all of its threads; 0 for no process."""
    if not pid:
        return 0.0
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        text = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text()
        total += int(re.split(r"\s", text)[0])
    return total / 1e6


if __name__ == "__main__":
    sys.exit(main())
