"""Measures background runs: idle memory, throughput, latency of keys, many writers."""

import contextlib
import hashlib
import os
import select
import shlex
import subprocess
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import rivals
from benchmarks.fleet import SYSTEMCTL
from benchmarks.keeper import manager, pss
from benchmarks.launch import MODE, SCOPEKEEPER, fresh
from benchmarks.measure import Row, quantile
from benchmarks.rivals import IDLE

UNIT = "scopekeeper.service"
_RAW = 'stty raw -echo; exec "$@"'
"""A terminal that does not change what is written."""


def holding(idle: int, megabytes: int, keys: int, writers: int, seconds: int) -> list[Row]:
    """Compare the keeper, which holds many terminals, with programs that hold one each."""
    lacking = rivals.missing()
    if lacking:
        raise SystemExit(f"benchmarks: to compare, install {', '.join(lacking)}")
    with tempfile.TemporaryDirectory() as folder, _keeper():
        home = Path(folder)
        return [
            *_memory(home, idle),
            *_throughput(home, megabytes),
            *_latency(home, keys),
            _crowd(home, writers, seconds),
        ]


@contextlib.contextmanager
def _keeper() -> Iterator[None]:
    """Let the first run start the keeper, and stop it at the end."""
    systemctl("stop", UNIT)
    try:
        yield
    finally:
        systemctl("stop", UNIT)


def systemctl(*words: str) -> str:
    """Call systemctl and return what it prints."""
    done = subprocess.run([SYSTEMCTL, *MODE, *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def begin(session: str, command: Sequence[str], *options: str) -> str:
    """Start a detached run, and return its id."""
    argv = [SCOPEKEEPER, "exec", "-d", "-s", session, *options, "--", *command]
    return subprocess.check_output(argv, text=True).strip()


def _end(*sessions: str) -> None:
    words = [word for session in sessions for word in ("-s", session)]
    subprocess.run([SCOPEKEEPER, "stop", *words], check=True, stdout=subprocess.DEVNULL)


def _memory(folder: Path, count: int) -> list[Row]:
    session = fresh("idle")
    end_first = begin(fresh("first"), ["true"])
    subprocess.run([SCOPEKEEPER, "wait", end_first], stdout=subprocess.DEVNULL, check=True)
    pid = int(systemctl("show", "--value", "-pMainPID", UNIT))
    before = pss(manager())
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: begin(session, IDLE), range(count)))
    mine = pss(pid) * 1024 / count
    systemds = (pss(manager()) - before) * 1024 / count
    _end(session)
    _, pids = rivals.dtach(folder, count, *IDLE)
    of_dtach = sum(pss(pid) for pid in pids) * 1024 / count
    rivals.end_all(pids)
    pids = rivals.conmon(folder, count)
    of_conmon = sum(pss(pid) for pid in pids) * 1024 / count
    rivals.end_all(pids)
    words = f"memory of a run, {count} idle ones"
    return [
        Row(words, mine, "one dtach for each", of_dtach, 0.5, "KiB"),
        Row(words, mine, "one conmon for each", of_conmon, 0.1, "KiB"),
        Row(f"{words}: and in systemd", mine + systemds, "one dtach for each", of_dtach, None,
            "KiB"),
    ]  # fmt: skip


_PIECES = 16
"""Pieces in a MiB."""
_WRITER = f"""
import os, sys, time
path, megabytes, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
piece = (b"%063d\\n" * 1024) % tuple(range(1024))
began = time.monotonic()
for number in range(megabytes * {_PIECES}):
    if rate:
        time.sleep(max(0.0, began + number / rate / {_PIECES} - time.monotonic()))
    left = piece
    while left:
        left = left[os.write(1, left):]
with open(path, "w") as file:
    file.write(str(time.monotonic() - began))
"""


def _written(megabytes: int) -> str:
    """Return the checksum of what the writer writes."""
    piece = (b"%063d\n" * 1024) % tuple(range(1024))
    return hashlib.sha256(piece * _PIECES * megabytes).hexdigest()


def _writer(folder: Path, megabytes: int, rate: int = 0) -> tuple[Path, list[str]]:
    """Return a command that writes, and the file to which it writes how many seconds that took.

    rate: MiB a second; 0 means as fast as it can.
    """
    took = folder / fresh("took")
    words = [sys.executable, "-IS", "-c", _WRITER, str(took), str(megabytes), str(rate)]
    return took, ["sh", "-c", _RAW, "sh", *words]


def _throughput(folder: Path, megabytes: int) -> list[Row]:
    """Compare the time that a command needs to write its output."""

    def ours() -> float:
        took, command = _writer(folder, megabytes)
        run = begin(fresh("write"), command, "--log-max", f"{2 * megabytes}M")
        subprocess.run([SCOPEKEEPER, "wait", run], stdout=subprocess.DEVNULL, check=True)
        return float(took.read_text())

    def with_dtach() -> float:
        took, command = _writer(folder, megabytes)
        argv = ["dtach", "-c", str(folder / fresh("socket")), *command]
        with _terminal(argv) as screen, open(folder / "cat", "wb") as file:
            while data := _read(screen):
                file.write(data)
        return float(took.read_text())

    def with_script() -> float:
        took, command = _writer(folder, megabytes)
        argv = ["script", "-qc", shlex.join(command), str(folder / "typescript")]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return float(took.read_text())

    times: dict[str, list[float]] = {"ours": [], "dtach": [], "script": []}
    for _ in range(3):
        times["ours"].append(ours())
        times["dtach"].append(with_dtach())
        times["script"].append(with_script())
    mine, of_dtach, of_script = (sorted(each)[1] * 1000 for each in times.values())
    words = f"a run writes {megabytes} MiB"
    return [
        Row(words, mine, "dtach and who reads it to a file", of_dtach, 2.0),
        Row(words, mine, "script", of_script, 2.0),
    ]


def _latency(folder: Path, keys: int) -> list[Row]:
    """Compare how long the echo of a typed key takes."""
    command = ["sh", "-c", _RAW, "sh", "cat"]
    run = begin(fresh("echo"), command)
    with _terminal([SCOPEKEEPER, "attach", run]) as screen:
        mine = _echoes(screen, keys)
    subprocess.run([SCOPEKEEPER, "send", run, "--eof"], check=False)
    paths, pids = rivals.dtach(folder, 1, *command)
    with _terminal(["dtach", "-a", str(paths[0]), "-r", "none"]) as screen:
        theirs = _echoes(screen, keys)
    rivals.end_all(pids)
    return [
        Row(f"a key's echo, {name} of {keys}", quantile(mine, part), "dtach -a",
            quantile(theirs, part), budget)
        for name, part, budget in (("median", 0.5, None), ("p99", 0.99, 2.0))
    ]  # fmt: skip


def _echoes(screen: int, keys: int) -> list[float]:
    """Type keys one after the other; return the milliseconds until the echo of each."""
    seen = b""
    deadline = time.monotonic() + 30
    while not seen.endswith(b"~"):  # it runs, and its terminal is raw
        os.write(screen, b"~")
        time.sleep(0.05)
        seen = _read(screen) if select.select([screen], [], [], 0.5)[0] else b""
        if time.monotonic() > deadline:
            raise RuntimeError("nothing is echoed")
    while select.select([screen], [], [], 0.3)[0]:
        _read(screen)
    times = []
    for number in range(keys):
        key = b"abcdefghijklmnopqrstuvwxyz"[number % 26 : number % 26 + 1]
        began = time.perf_counter()
        os.write(screen, key)
        while key not in _read(screen):
            pass
        times.append((time.perf_counter() - began) * 1000)
    return times


@contextlib.contextmanager
def _terminal(argv: Sequence[str]) -> Iterator[int]:
    """Run a program on a terminal; yield the other side of it."""
    screen, theirs = os.openpty()
    tty.setraw(theirs, termios.TCSANOW)
    process = subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        yield screen
    finally:
        process.terminate()
        process.wait()
        os.close(screen)


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 1 << 16)
    except OSError:
        return b""  # it has hung up


def _crowd(folder: Path, count: int, seconds: int) -> Row:
    """Let many runs write 1 MiB/s; no byte may be missing."""
    writers = [_writer(folder, seconds, rate=1) for _ in range(count)]
    most = f"{2 * seconds}M"
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda each: begin(fresh("crowd"), each[1], "--log-max", most),
                             writers))  # fmt: skip
    subprocess.run([SCOPEKEEPER, "wait", *runs], stdout=subprocess.DEVNULL, check=True)
    whole = _written(seconds)
    for run in runs:
        output = subprocess.check_output([SCOPEKEEPER, "logs", run])
        if hashlib.sha256(output).hexdigest() != whole:
            raise RuntimeError(f"the output of {run} is not what it wrote")
    slowest = max(float(took.read_text()) for took, _ in writers)
    return Row(f"{count} runs write 1 MiB/s for {seconds} s: the slowest", slowest * 1000,
               "what was asked for", seconds * 1000, None)  # fmt: skip
