"""Rivals that hold terminals: dtach, conmon, script, each started as its users start it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.launch import fresh

IDLE = ("/bin/sleep", "100000")
"""The command that is held while memory is measured."""


def missing() -> list[str]:
    """Return the rivals that are not installed."""
    return [name for name in ("dtach", "conmon", "script") if shutil.which(name) is None]


def dtach(folder: Path, count: int, *command: str) -> tuple[list[Path], list[int]]:
    """Start this many, detached; return their sockets and the pids that stay."""
    paths = [folder / fresh("dtach") for _ in range(count)]
    for path in paths:
        subprocess.run(["dtach", "-n", str(path), *command], check=True)
    return paths, _with_argument(set(paths))


def conmon(folder: Path, count: int) -> list[int]:
    """Start this many conmons, each with a terminal and a log; return their pids."""
    pids = []
    program = shutil.which("conmon") or "conmon"
    sockets = folder / "sockets"
    sockets.mkdir()
    for _ in range(count):
        name = fresh("conmon")
        bundle = folder / name
        bundle.mkdir()
        subprocess.run(
            [program, "--terminal", "--cid", name, "--cuuid", name, "--name", name,
             "--runtime", _runtime(folder), "--bundle", bundle, "--persist-dir", bundle,
             "--conmon-pidfile", bundle / "conmon", "--container-pidfile", bundle / "pid",
             "--log-path", f"k8s-file:{bundle / 'log'}", "--socket-dir-path", sockets,
             "--exit-dir", bundle],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        pids.append(int((bundle / "conmon").read_text()))
    return pids


def _runtime(folder: Path) -> Path:
    """Return a runtime for conmon in place of runc, which starts the command on a terminal."""
    path = folder / "runtime"
    if not path.exists():
        path.write_text(f"#!{sys.executable} -IS\n{_RUNTIME}")
        path.chmod(0o755)
    return path


_RUNTIME = f"""
import os, socket, sys
options = sys.argv[1:]
def option(name):
    return options[options.index(name) + 1]
if "create" in options:
    master, slave = os.openpty()
    pid = os.fork()
    if not pid:
        os.setsid()
        for fd in range(3):
            os.dup2(slave, fd)
        os.closerange(3, 64)
        os.execv({IDLE[0]!r}, {list(IDLE)!r})
    console = socket.socket(socket.AF_UNIX)
    console.connect(option("--console-socket"))
    socket.send_fds(console, [b"/dev/ptmx"], [master])
    with open(option("--pid-file"), "w") as file:
        file.write(str(pid))
"""


def end_all(pids: list[int]) -> None:
    """End holders by ending their commands."""
    for pid in pids:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError("it takes too long")
        time.sleep(0.01)


def _with_argument(paths: set[Path]) -> list[int]:
    """Return the processes that have one of these paths among their arguments."""
    wanted = {os.fsencode(path) for path in paths}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if not wanted.isdisjoint(argv):
                found.append(int(entry.name))
    if len(found) != len(paths):
        raise RuntimeError(f"{len(found)} of {len(paths)} were found")
    return found
