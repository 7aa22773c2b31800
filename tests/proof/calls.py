"""The system calls of a good run, the points chosen among them, and strace that strikes there."""

import os
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.machine import eventually, text_of

_LINE = re.compile(r"(?P<pid>\d+) +(?P<name>[a-z_0-9]+)\((?P<text>.*)")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LOADED = re.compile(r"/scopekeeper/(launcher/(hot|calls)|(__pycache__/)?(__init__|main)\.)")
_TO_LOAD = 8
"""Calls that it takes to read and close a module."""
CHANGES = _names(
    """
    mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink
    symlinkat setxattr fsetxattr removexattr write pwrite64 writev ftruncate fallocate fsync
    fdatasync chmod fchmod fchmodat fchown utimensat flock sendto sendmsg connect kill
    pidfd_send_signal execve fork vfork clone clone3 bind listen splice
    """
)
"""Calls that change something outside of the process, or take a lock."""
_FULL = _names(
    """
    mkdir mkdirat rename renameat renameat2 link linkat symlink symlinkat setxattr fsetxattr
    write pwrite64 writev ftruncate fallocate fsync fdatasync
    """
)
_GONE = _names(
    """
    rmdir unlink unlinkat chmod fchmod fchmodat
    """
)
_OPENS = _names(
    """
    openat openat2 socket epoll_create1 eventfd2 inotify_init1 pidfd_open memfd_create pipe2
    timerfd_create
    """
)
_READS = _names(
    """
    read pread64 getdents64 readlink readlinkat newfstatat statx statfs getxattr fgetxattr
    """
)
_WAITS = _names(
    """
    read write sendto sendmsg recvfrom recvmsg connect poll ppoll epoll_wait epoll_pwait
    flock wait4 waitid openat
    """
)
_FORKS = _names(
    """
    fork vfork clone clone3
    """
)


@dataclass(frozen=True)
class Call:
    """A system call of a good run; ``nth`` counts those of its name in its thread."""

    name: str
    nth: int
    at: int
    """Its place among all calls."""
    text: str
    ours: bool
    """Whether the interpreter had begun to load our program."""


@dataclass(frozen=True)
class Fault:
    """What happens at one call."""

    call: Call
    of: int
    error: str = ""
    """The error that it fails with; '' kills the process right before the call."""
    on: bool = False
    """Whether all later ones of its name fail as well."""

    def options(self, log: Path) -> list[str]:
        """Return the command line of strace up to the program."""
        what = f"error={self.error}" if self.error else "signal=SIGKILL"
        when = f"{self.call.nth}{'+' if self.on else ''}"
        name = self.call.name
        inject = f"inject={name}:{what}:when={when}"
        return [*_STRACE, "-e", f"trace={name}", "-e", inject, "-o", str(log), "--"]

    def __str__(self) -> str:
        what = f"{self.error}{' from' if self.on else ' at'}" if self.error else "SIGKILL before"
        call = self.call
        return f"{what} {call.name}#{call.nth} (call {call.at} of {self.of}: {call.text[:70]})"


# -D: the tracer is a grandchild, so that the program is our child, with its own exit status, and
# goes on if the tracer ends.
# -b: what a program starts or becomes is not its own.
_STRACE = ("strace", "-D", "-f", "-b", "execve", "-qq", "-s", "120")


def recording(log: Path) -> list[str]:
    """Return the command line of strace that writes down all calls."""
    return [*_STRACE, "-o", str(log), "--"]


def was_struck(log: Path) -> bool:
    """Return whether the injection took place."""
    text = text_of(log)
    return "(INJECTED)" in text or "killed by SIGKILL" in text


def settled(log: Path) -> None:
    """Wait until the tracer has written everything."""

    def is_quiet() -> bool:
        before = os.stat(log).st_size
        time.sleep(0.05)
        return os.stat(log).st_size == before

    eventually(log.exists)
    eventually(is_quiet)


def parse(text: str) -> list[Call]:
    """Return the calls that strace wrote down."""
    counts: Counter[tuple[str, str]] = Counter()
    found: list[tuple[str, int, str]] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or "resumed>" in line:
            continue
        if not found and not counts and match["name"] == "execve":
            continue  # strace's own, which its injections do not count
        key = match["pid"], match["name"]
        counts[key] += 1
        found.append((match["name"], counts[key], match["text"]))
    loads = [at for at, (_, _, words) in enumerate(found) if _LOADED.search(words)]
    ours = loads[-1] + _TO_LOAD if loads else len(found)
    return [
        Call(name, nth, at + 1, words, at > ours) for at, (name, nth, words) in enumerate(found)
    ]


def choose(calls: Sequence[Call], chance: random.Random, *, errors: bool) -> Fault:
    """Choose a point: half of them among the calls that change something, half among all."""
    errors = errors and any(each.ours for each in calls)
    usable = [each for each in calls if not errors or (each.ours and errors_of(each))]
    changing = [each for each in usable if each.name in CHANGES or "O_CREAT" in each.text]
    call = chance.choice(changing if changing and chance.random() < 0.5 else usable)
    if not errors:
        return Fault(call, len(calls))
    error = chance.choice(errors_of(call))
    lasts = error in ("ENOSPC", "EROFS", "EMFILE", "ENOMEM") and call.name != "mmap"
    return Fault(call, len(calls), error, on=lasts and chance.random() < 0.3)


def errors_of(call: Call) -> list[str]:
    """Return the errors that the kernel may answer this call with."""
    name, found = call.name, []
    writes = "O_CREAT" in call.text or "O_WRONLY" in call.text or "O_RDWR" in call.text
    if name in _FULL or (name == "openat" and writes):
        found += ["ENOSPC", "EIO", "EROFS"]
    if name in _GONE:
        found += ["EROFS", "EIO"]
    if name in _OPENS:
        found += ["EMFILE", "ENOMEM"]
    if name in _READS:
        found += ["EIO"] if name in ("read", "pread64", "getdents64") else ["ENOMEM"]
    if name in _WAITS:
        found += ["EINTR"]
    if name in _FORKS or name == "mmap":
        found += ["ENOMEM"]
    return found
