"""Helpers of tests on a real machine: launch, observe, wait, clean up.

Does not import scopekeeper: tests observe procfs, cgroupfs and systemd.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests import folders

T = TypeVar("T")

ROOT = os.geteuid() == 0
MOUNT = next(
    (
        mount
        for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
        if os.path.exists(f"{mount}/cgroup.controllers")
    ),
    "",
)
PROGRAM = shutil.which("scopekeeper") or "scopekeeper"
SHELL = shutil.which("scopekeeper-shell") or "scopekeeper-shell"
PREFIX = shutil.which("scopekeeper-prefix") or "scopekeeper-prefix"
PATIENCE = 60.0
"""Seconds to wait for what must happen; an emulated machine is ten times slower."""
ATTRIBUTE = "user.scopekeeper"
FOREVER = ("sleep", "infinity")


def sees_its_name() -> bool:
    """Return True if the installed shell is a binary: a script loses its argv[0]."""
    with open(SHELL, "rb") as file:
        return file.read(4) == b"\x7fELF"


def is_emulated() -> bool:
    """Return True in a virtual machine, where starting a process takes 0.1 s."""
    if not shutil.which("systemd-detect-virt"):
        return False
    # a container in a virtual machine does not count
    kinds = ("--container", "--vm")
    container, machine = (subprocess.run(["systemd-detect-virt", "-q", kind]) for kind in kinds)
    return container.returncode != 0 and machine.returncode == 0


def eventually(condition: Callable[[], T], seconds: float = PATIENCE, pause: float = 0.01) -> T:
    """Wait until the condition holds and return its value; fails with the last one.

    It waits for as long as it looks, at least: a look that starts programs is not to keep from
    working what it waits for.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        assert now < deadline, f"did not come about in {seconds} s; last: {value!r}"
        time.sleep(max(pause, now - began))


def text_of(path: str | Path) -> str:
    """Return a file's text, '' if it is gone."""
    try:
        return Path(path).read_text(errors="surrogateescape")
    except OSError:
        return ""


def cgroup_of(pid: int | str) -> str:
    """Return the cgroup2 path of a process, '' if it is gone."""
    for line in text_of(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::"):
            return line[3:]
    return ""


def directory_of(pid: int | str) -> str:
    """Return the cgroup directory of a process."""
    return MOUNT + cgroup_of(pid)


def state_of(pid: int) -> str:
    """Return the state letter of a process, '' if it is gone."""
    return text_of(f"/proc/{pid}/stat").rpartition(")")[2][1:2]


def is_alive(pid: int) -> bool:
    """Return True if a process exists and is no zombie."""
    return state_of(pid) not in ("", "Z", "X")


def environment_of(pid: int) -> dict[str, str]:
    """Return the initial environment of a process."""
    pairs = (entry.partition("=") for entry in text_of(f"/proc/{pid}/environ").split("\0"))
    return {name: value for name, equals, value in pairs if equals}


def signal_set(pid: int | str, name: str) -> int:
    """Return a signal set of a process: SigBlk, SigIgn or SigCgt."""
    for line in text_of(f"/proc/{pid}/status").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1], 16)
    raise AssertionError(f"no {name} of {pid}")


def processes(directory: str) -> set[int]:
    """Return every pid in a cgroup and below."""
    found = set()
    for folder in folders.below(directory):
        found |= {int(pid) for pid in text_of(f"{folder}/cgroup.procs").split()}
    return found


def leaves(directory: str) -> list[str]:
    """Return the names of the cgroups directly inside of another."""
    try:
        return sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())
    except OSError:
        return []


def is_populated(directory: str) -> bool:
    """Return True if anything lives in a cgroup or below; a removed one is empty."""
    return "populated 1" in text_of(f"{directory}/cgroup.events")


def record_of(directory: str) -> dict[str, str]:
    """Return the record in the extended attribute of a scope or member; {} if it has none."""
    try:
        raw = os.getxattr(directory, ATTRIBUTE)
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in raw.decode(errors="replace").splitlines())


def rewrite_record(directory: str, **changes: str) -> None:
    """Change fields of a record."""
    fields = record_of(directory) | changes
    os.setxattr(directory, ATTRIBUTE, "".join(f"{k}={v}\n" for k, v in fields.items()).encode())


def scope_directories(top: str = MOUNT) -> list[str]:
    """Return every cgroup below top that is named like one of our scopes."""
    return sorted(
        folder
        for folder in folders.below(top)
        if os.path.basename(folder).startswith("scopekeeper-") and folder.endswith(".scope")
    )


def scope_directory(session: str, top: str = MOUNT) -> str:
    """Return the one scope directory whose record names the session; '' if there is none."""
    found = [each for each in scope_directories(top) if record_of(each).get("SESSION") == session]
    assert len(found) < 2, found
    return found[0] if found else ""


def end_cgroup(directory: str) -> None:
    """Kill everything in a cgroup and wait until it is empty or gone."""
    with contextlib.suppress(OSError):
        os.chmod(directory, 0o755)  # its processes may have taken the permissions away
        Path(directory, "cgroup.kill").write_text("1")
    eventually(lambda: not is_populated(directory))


THOROUGH = False
"""Set by ``--thorough``."""


def rounds(most: int, *, least: int, seconds: float = 2.0) -> Iterator[float]:
    """Yield moments to strike at, parts of a whole from 0 to below 1, evenly spread at any count.

    As many as fit into some seconds, but a few at least; all of them with ``--thorough``.
    """
    until = time.monotonic() + seconds
    for number in range(most):
        if number >= least and not THOROUGH and time.monotonic() > until:
            return
        # 0, 1/2, 1/4, 3/4, 1/8, ...: the bits of the number, mirrored at the point
        yield int(f"{number:b}"[::-1], 2) / (1 << number.bit_length())


class Scopekeeper:
    """The installed program, and the processes that a test started with it."""

    def __init__(self, *options: str) -> None:
        self.options = options
        """Options of every ``run``."""
        self.started: list[subprocess.Popen[bytes]] = []

    def argv(self, *arguments: str) -> list[str]:
        """Return the command line of a ``run``."""
        return [PROGRAM, "run", *self.options, *arguments]

    def start(self, *arguments: str, **how: object) -> subprocess.Popen[bytes]:
        """Start a ``run`` and return at once."""
        how.setdefault("stdin", subprocess.DEVNULL)
        return self.popen(self.argv(*arguments), **how)

    def popen(self, argv: list[str], **how: object) -> subprocess.Popen[bytes]:
        """Start any process; it is reaped at the end of the test."""
        process: subprocess.Popen[bytes] = subprocess.Popen(argv, **how)  # type: ignore[call-overload]
        self.started.append(process)
        return process

    def member(self, *arguments: str, **how: object) -> subprocess.Popen[bytes]:
        """Start a ``run`` and wait until the command itself runs."""
        process = self.start(*arguments, **how)
        wait_for_command(process)
        return process

    def run(self, *arguments: str, **how: object) -> subprocess.CompletedProcess[str]:
        """Complete a ``run``."""
        return self.call("run", *self.options, *arguments, **how)

    def call(self, *arguments: str, **how: object) -> subprocess.CompletedProcess[str]:
        """Complete any command of the program."""
        how = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": 180} | how
        if "stdout" in how or "stderr" in how:
            how.pop("capture_output")
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [PROGRAM, *arguments], text=True, errors="surrogateescape", **how
        )

    def scopes(self, *arguments: str) -> list[dict[str, object]]:
        """Return the scopes of ``ls --json``; never the only proof of anything."""
        done = self.call("ls", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)["scopes"]
        return found

    def close(self) -> None:
        """Reap what the test started; it has been ended through its cgroup."""
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            if process.returncode is None:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


_IMPATIENT = """\
from scopekeeper.launch import waiting
from scopekeeper.main import main
waiting.PATIENCE["foreign"] = 0.5
main()
"""


def impatient_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Do a ``run`` that waits half a second for the record of a scope, where others wait 15."""
    return subprocess.run(
        [sys.executable, "-P", "-c", _IMPATIENT, "run", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", timeout=180,
    )  # fmt: skip


def complaints(words: bytes) -> list[str]:
    """Return what a launch wrote on stderr, but for whom it has waited for: others are at work."""
    return [line for line in words.decode().splitlines()
            if not line.startswith("scopekeeper: waiting for ")]  # fmt: skip


def wait_for_command(process: subprocess.Popen[bytes]) -> None:
    """Wait until a launched process has become its command: only then it has the variable."""

    def arrived() -> bool:
        if process.poll() is not None:
            words = process.stderr.read().decode() if process.stderr else ""
            raise AssertionError(f"the launch ended with {process.returncode}: {words}")
        return "SCOPEKEEPER_MEMBER" in environment_of(process.pid)

    eventually(arrived, pause=0.002)


def children_of(pid: int) -> list[int]:
    """Return the children of a process, including those that it has not reaped."""
    return [int(child) for child in text_of(f"/proc/{pid}/task/{pid}/children").split()]


def trials_of(doctor: int) -> list[int]:
    """Return the launches that a doctor tries."""
    mark = "scopekeeper.launch.run"
    return [each for each in children_of(doctor) if mark in text_of(f"/proc/{each}/cmdline")]


_LIMITS = {
    "x86_64": {7: (2, True), 23: (4, False), 202: (3, False), 232: (3, True), 270: (4, False),
               271: (2, False), 281: (3, True), 441: (3, False)},
    "aarch64": {22: (3, True), 72: (4, False), 73: (2, False), 98: (3, False), 441: (3, False)},
}  # fmt: skip
"""The system calls of poll, select, futex and epoll: which argument is the time limit, and whether
it is a number of milliseconds (none is negative) or a pointer (none is NULL)."""


def sleeps(pid: int) -> bool:
    """Return whether a process will not wake up unless something outside of it happens.

    Each thread waits without a time limit, there is no timer to wait for, and none of them runs
    for a moment. Needs a process that may be traced: a child, or root's eyes.
    """
    before = _switches(pid)
    if not all(map(_waits_without_limit, _threads(pid))) or _has_timer(pid):
        return False
    time.sleep(0.3)  # one that wakes itself by what it does itself runs all the time
    return _switches(pid) == before


def _threads(pid: int) -> list[str]:
    return [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]


def _waits_without_limit(thread: str) -> bool:
    """Return whether a thread is in a system call that lasts until somebody ends it."""
    words = text_of(f"{thread}/syscall").split()
    if len(words) < 7:
        return False  # it runs
    at, is_number = _LIMITS[os.uname().machine].get(int(words[0]), (0, True))
    limit = int(words[1 + at], 16)
    return bool(limit & 1 << 31) if is_number else limit == 0


def _has_timer(pid: int) -> bool:
    links = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return any("timerfd" in link for link in links)


def _switches(pid: int) -> int:
    """Return how often the threads of a process began to run."""
    lines = "".join(text_of(f"{thread}/status") for thread in _threads(pid)).splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
