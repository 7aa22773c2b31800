"""The system calls of a good run, the points chosen among them, and what strikes there."""

import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.machine import eventually, text_of

from .world import Strike

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
SHORT = "short write"
"""An error that is none: the call writes half of what it has to."""
_WRITES = {"write": 1, "pwrite64": 18, "sendto": 44}
"""Their numbers on x86-64."""
_SIZE = re.compile(r", (?P<size>\d+)(, [^\"()]*)?\) += \d+$")
_KERNEL = re.compile(r"\d+</(sys|proc|dev)/|\d+<(NETLINK|UNIX-DGRAM)|\d+<anon_inode")
"""What takes a write whole or not at all."""
_TRACER = (sys.executable, "-IS", str(Path(__file__).with_name("tracer.py")))


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
    thread: str
    """The thread that made it."""
    is_first: bool
    """Whether that is the first thread of the first process."""

    @property
    def can_be_short(self) -> bool:
        """Whether the kernel may write a part: to a file, a pipe or a connection."""
        size = _SIZE.search(self.text)
        return bool(
            os.uname().machine == "x86_64" and self.name in _WRITES and self.is_first
            and size and int(size["size"]) > 1 and not _KERNEL.match(self.text)
            and (self.name != "sendto" or "STREAM" in self.text)
        )  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What happens at one call."""

    call: Call
    of: int
    error: str = ""
    """The error that it fails with; '' kills the process right before the call."""
    on: bool = False
    """Whether all later ones of its name fail as well."""
    executes: bool = True
    """Whether the command becomes another program or starts one."""

    def strike(self, log: Path) -> Strike:
        """Return what makes it happen."""
        if self.error == SHORT:
            where = (str(_WRITES[self.call.name]), str(self.call.nth))
            return Strike((*_TRACER, str(log), "short", *where, "--"))
        return Strike(self._options(log), at_execve=self.call.name == "execve")

    def _options(self, log: Path) -> tuple[str, ...]:
        """Return the command line of strace up to the program."""
        what = f"error={self.error}" if self.error else "signal=SIGKILL"
        when = f"{self.call.nth}{'+' if self.on else ''}"
        name = self.call.name
        inject = f"inject={name}:{what}:when={when}"
        # a filter of the kernel passes all other calls, else strace takes a third of the time. But
        # it stays in a program that strace has left, and no signal is injected there (strace 6.1)
        is_passed = self.error and not self.executes
        how = (*_FOLLOW, "--seccomp-bpf", *_QUIET) if is_passed else _STRACE
        return (*how, "-e", f"trace={name}", "-e", inject, "-o", str(log), "--")

    def __str__(self) -> str:
        where = " of" if self.error == SHORT else " from" if self.on else " at"
        what = f"{self.error}{where}" if self.error else "SIGKILL before"
        call = self.call
        return f"{what} {call.name}#{call.nth} (call {call.at} of {self.of}: {call.text[:70]})"


# -D: the tracer is a grandchild, so that the program is our child, with its own exit status, and
# goes on if the tracer ends.
# -b: what a program starts or becomes is not its own.
_FOLLOW, _QUIET = ("strace", "-D", "-f"), ("-qq", "-s", "120")
_STRACE = (*_FOLLOW, "-b", "execve", *_QUIET)


@dataclass(frozen=True)
class Program:
    """A program that a command has started in a good run, with how many calls it made."""

    name: str
    calls: int

    def kill(self, at: int, log: Path) -> Strike:
        """Return what kills it before one of its calls."""
        return Strike((*_TRACER, str(log), "kill", self.name, str(at), "--"))


def recording(log: Path) -> Strike:
    """Return what has strace write down all calls."""
    return Strike((*_STRACE, "-yy", "-o", str(log), "--"))


def programs_of(log: Path) -> Strike:
    """Return what writes down the calls of what the command starts."""
    return Strike((*_TRACER, str(log), "record", "--"))


def programs(text: str) -> list[Program]:
    """Return the programs that the tracer wrote down; forks of the command are none."""
    counts = Counter(line.partition(" ")[0] for line in text.splitlines())
    return [Program(name, count) for name, count in counts.items() if "#" in name]


def was_struck(log: Path) -> bool:
    """Return whether it took place."""
    text = text_of(log)
    return any(words in text for words in ("(INJECTED)", "killed by SIGKILL", "struck "))


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
    found: list[tuple[str, int, str, str]] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or "resumed>" in line:
            continue
        if not found and not counts and match["name"] == "execve":
            continue  # strace's own, which its injections do not count
        key = match["pid"], match["name"]
        counts[key] += 1
        found.append((match["name"], counts[key], match["text"], match["pid"]))
    loads = [
        at for at, (name, _, words, _) in enumerate(found)
        if name.startswith("open") and _LOADED.search(words)
    ]  # fmt: skip
    ours = loads[-1] + _TO_LOAD if loads else len(found)
    return [
        Call(name, nth, at + 1, words, at > ours, thread, thread == found[0][3])
        for at, (name, nth, words, thread) in enumerate(found)
    ]


def choose(calls: Sequence[Call], chance: random.Random, *, errors: bool) -> Fault:
    """Choose a point: half of them among the calls that change something, half among all."""
    error = chance.choice(offered(calls)) if errors and offered(calls) else ""
    usable = [each for each in calls if not error or (each.ours and error in errors_of(each))]
    changing = [each for each in usable if each.name in CHANGES or "O_CREAT" in each.text]
    call = chance.choice(changing if changing and chance.random() < 0.5 else usable)
    executes = any(each.name == "execve" for each in calls)
    if not error:
        return Fault(call, len(calls), executes=executes)
    lasts = error in ("ENOSPC", "EROFS", "EMFILE", "ENOMEM") and call.name != "mmap"
    on = lasts and chance.random() < 0.3
    return Fault(call, len(calls), error, on=on, executes=executes)


def offered(calls: Iterable[Call]) -> list[str]:
    """Return the errors that some call of the program can fail with."""
    return sorted({error for each in calls if each.ours for error in errors_of(each)})


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
    if call.can_be_short:
        found += [SHORT]
    return found
