"""Measures a launch: joining a scope, creating one, a cohort of nine, 400 members at once."""

import contextlib
import itertools
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.measure import Command, Row, medians

SCOPEKEEPER = shutil.which("scopekeeper") or ""
SHELL = shutil.which("scopekeeper-shell") or ""
PREFIX = shutil.which("scopekeeper-prefix") or ""
MODE = [] if os.geteuid() == 0 else ["--user"]
_number = itertools.count()


def interpreter() -> str:
    """Return the interpreter that the installed launcher starts."""
    with open(SCOPEKEEPER, encoding="utf-8") as file:
        return file.readline()[2:].split()[0]


def is_direct() -> bool:
    """Return True if scopekeeper.launcher.direct wrote the installed script."""
    with open(SCOPEKEEPER, encoding="utf-8") as file:
        return file.readline().endswith(" -IS\n")


def ours(session: str, *options: str, command: Sequence[str] = ("/bin/true",)) -> list[str]:
    """Return a command line of scopekeeper."""
    return [SCOPEKEEPER, "run", "-s", session, *options, "--", *command]


def systemd_run(*command: str) -> list[str]:
    """Return a command line of the rival, which creates a scope for each command."""
    program = shutil.which("systemd-run") or "systemd-run"
    return [program, *MODE, "--scope", "--quiet", "--collect", "--", *(command or ("/bin/true",))]


def fresh(prefix: str) -> str:
    """Return an unused name."""
    return f"bench-{prefix}-{os.getpid()}-{next(_number)}"


@contextlib.contextmanager
def living_scope(session: str) -> Iterator[None]:
    """Keep a scope alive with one member."""
    with started([ours(session, command=READY)], together=False):
        yield


@contextlib.contextmanager
def shell_of(session: str) -> Iterator[None]:
    """Set the session of the shells that are started, and /bin/sh as the real shell."""
    variables = {"SCOPEKEEPER_SESSION": session, "SCOPEKEEPER_SHELL": "/bin/sh"}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


@contextlib.contextmanager
def client() -> Iterator[None]:
    """Set what Claude Code sets for a server."""
    variables = {"CLAUDECODE": "1", "CLAUDE_CODE_SESSION_ID": "bench"}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


SERVER = "exec /bin/true"
READY = ("/bin/sh", "-c", "echo; exec sleep 1000")
"""A member that prints a line when it runs, and stays."""


@contextlib.contextmanager
def started(
    commands: Sequence[Sequence[str]], *, together: bool, workers: int = 0
) -> Iterator[float]:
    """Start members and wait until each runs; yield the milliseconds that it took."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(argv: Sequence[str]) -> None:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        processes.append(process)
        if not together:
            _await(process)

    began = time.perf_counter()
    try:
        if workers:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(start, commands))
        else:
            for argv in commands:
                start(argv)
        if together:
            for process in processes:
                _await(process)
        yield (time.perf_counter() - began) * 1000
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def _await(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    poll = select.poll()  # select(2) takes no descriptor from 1,024 on
    poll.register(process.stdout or 0, select.POLLIN)
    ready = poll.poll(60_000)
    if not ready or not os.read(process.stdout.fileno(), 1):
        raise RuntimeError(f"{process.args!r} did not start")


def single(rounds: int, block: int) -> list[Row]:
    """Compare one launch with the bare interpreter and with systemd-run."""
    session = fresh("join")
    commands: dict[str, Command] = {
        "floor": lambda: [interpreter(), "-I", "-S", "-c", "pass"],
        "rival": systemd_run,
        "join": lambda: ours(session, "-n", "true"),
        "create": lambda: ours(fresh("new")),
        "shell": lambda: [SHELL, "-c", "true"],
        "rival shell": lambda: systemd_run("/bin/sh", "-c", "true"),
        "join by sh": lambda: ours(session, command=("/bin/sh", "-c", "true")),
        "server": lambda: [PREFIX, "/bin/true"],
        "server by run": lambda: ours(session, "-n", "true", command=("/bin/sh", "-c", SERVER)),
    }
    with living_scope(session), shell_of(session), client():
        found = medians(commands, rounds=rounds, block=block)
    floor, rival = "python3 -I -S -c pass", "systemd-run --scope"
    return [
        Row("run, joining a scope", found["join"], floor, found["floor"], 1.06),
        Row("run, joining a scope", found["join"], rival, found["rival"], 1.10),
        Row("run, making a scope", found["create"], rival, found["rival"], 1.50),
        Row("scopekeeper-shell -c true, joining", found["shell"],
            f"{rival} sh -c true", found["rival shell"], 1.10),
        Row("scopekeeper-shell -c true, joining", found["shell"],
            "run -- sh -c true, joining", found["join by sh"], 1.06),
        Row("scopekeeper-prefix, a server, joining", found["server"], floor, found["floor"], None),
        Row("scopekeeper-prefix, a server, joining", found["server"],
            "run -- sh -c 'exec true', joining", found["server by run"], 1.06),
    ]  # fmt: skip


def _fastest(commands: Sequence[Sequence[Sequence[str]]], *, together: bool) -> float:
    times = []
    for batch in commands:
        with started(batch, together=together) as took:
            times.append(took)
    return sorted(times)[len(times) // 2]


def cohort(rounds: int) -> list[Row]:
    """Compare nine members of one cohort with nine scopes of systemd-run."""
    rows = []
    for together, budget, words in ((False, 1.1, "one by one"), (True, 0.9, "together")):
        mine, theirs = [], []
        for _ in range(rounds):
            session = fresh("cohort")
            mine.append(_fastest([[ours(session, "-n", f"m{n}", command=READY) for n in range(9)]],
                                 together=together))  # fmt: skip
            theirs.append(_fastest([[systemd_run(*READY) for _ in range(9)]], together=together))
        rows.append(
            Row(f"nine members of a cohort, {words}", sorted(mine)[rounds // 2],
                f"nine systemd-run --scope, {words}", sorted(theirs)[rounds // 2], budget)
        )  # fmt: skip
    return rows


def crowd() -> list[Row]:
    """Compare 400 members in 45 scopes with 400 scopes, started by 16 workers."""
    sessions = [fresh("crowd") for _ in range(45)]
    members = [ours(sessions[n % 45], "-n", f"m{n}", command=READY) for n in range(400)]
    with started(members, together=False, workers=16) as mine:
        pass
    with started([systemd_run(*READY) for _ in range(400)], together=False, workers=16) as theirs:
        pass
    return [
        Row("400 members in 45 scopes, 16 workers", mine, "400 systemd-run --scope", theirs, None)
    ]
