"""Measures the cost of an idle keeper, and how soon it ends what lost its owner."""

import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fleet import SYSTEMCTL
from benchmarks.launch import MODE, READY, SCOPEKEEPER, fresh, ours, started, systemd_run
from benchmarks.measure import Row, spawn

_MEMORY, _POLLS = 40.0, 12.0
"""Its budget in MiB; wake-ups a minute of a program that polls every 5 s."""


def keeping(scopes: int, seconds: float, rounds: int) -> list[Row]:
    """Measure a keeper of idle scopes, and its reaction to the end of an owner."""
    with running() as pid:
        members = [ours(fresh("keep"), command=READY) for _ in range(scopes)]
        with started(members, together=False, workers=8):
            while _wake_ups(pid, 1.0):
                pass
            woken = _wake_ups(pid, seconds) * 60 / seconds
            memory, systemds = pss(pid), pss(manager())
        mine = [_until_ended() for _ in range(rounds)]
    theirs = [_until_systemd_ended_it() for _ in range(rounds)]
    words = f"the keeper, {scopes} idle scopes"
    return [
        Row(f"{words}: memory", memory, "what it may take", _MEMORY, 1.0, "MiB"),
        Row(f"{words}: memory", memory, "systemd's own process", systemds, None, "MiB"),
        Row(f"{words}: wake-ups a minute", woken, "looking every 5 s", _POLLS, 0.1, ""),
        Row("an owner's end to its member's", statistics.median(mine), "systemd, with BindsTo=",
            statistics.median(theirs), None),
    ]  # fmt: skip


@contextlib.contextmanager
def running() -> Iterator[int]:
    """Run a keeper with a state of its own; yield its pid once it is ready."""
    with tempfile.TemporaryDirectory() as folder:
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.bind(f"{folder}/notify")
        ready.settimeout(60)
        own = {"NOTIFY_SOCKET": f"{folder}/notify", "SCOPEKEEPER_STATE": f"{folder}/state"}
        keeper = subprocess.Popen(
            [SCOPEKEEPER, "keeper", "--linger", "infinity"],
            env={**os.environ, **own}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
            yield keeper.pid
        finally:
            ready.close()
            keeper.terminate()
            keeper.wait()


def _until_ended() -> float:
    """Return the milliseconds from an owner's end to its member's end by the keeper."""
    with subprocess.Popen(["/bin/sleep", "1000"]) as owner:
        argv = ours(fresh("react"), "--owner", str(owner.pid), command=READY)
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as member:
            _await_word(member)
            time.sleep(0.3)  # until the keeper has seen it
            began = time.perf_counter()
            owner.kill()
            member.wait()
            return (time.perf_counter() - began) * 1000


def _until_systemd_ended_it() -> float:
    """Return the same for a service and a scope that systemd binds to it."""
    unit = f"{fresh('owner')}.service"
    program, *rest = systemd_run(*READY)
    spawn([program, *MODE, "--quiet", f"--unit={unit}", "/bin/sleep", "1000"])
    argv = [program, f"--property=BindsTo={unit}", f"--property=After={unit}", *rest]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as member:
        _await_word(member)
        time.sleep(0.3)
        main = subprocess.check_output([SYSTEMCTL, *MODE, "show", "--value", "-pMainPID", unit])
        began = time.perf_counter()
        os.kill(int(main), signal.SIGKILL)
        member.wait()
        took = (time.perf_counter() - began) * 1000
    spawn([SYSTEMCTL, *MODE, "reset-failed", unit])
    return took


def _await_word(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    process.stdout.readline()


def manager() -> int:
    """Return the pid of the systemd that creates the scopes."""
    if os.geteuid() == 0:
        return 1
    unit = f"user@{os.geteuid()}.service"
    return int(subprocess.check_output([SYSTEMCTL, "show", "--value", "-pMainPID", unit]))


def _wake_ups(pid: int, seconds: float) -> int:
    def switches() -> int:
        text = Path(f"/proc/{pid}/status").read_text()
        return sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", text)))

    before = switches()
    time.sleep(seconds)
    return switches() - before


def pss(pid: int) -> float:
    """Return the proportional memory (PSS) of a process in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0]) / 1024
