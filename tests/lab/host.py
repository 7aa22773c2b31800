"""What the lab needs to know of, and do on, the host: tools, processes, folders."""

import fcntl
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USAGE_STATUS = 2
NO_VERDICT_STATUS = 70
LOCK_LIMIT_S = 7200.0  # for a build by somebody else, and then some
APT_PACKAGES = "mmdebstrap qemu-system-x86 qemu-utils systemd-container e2fsprogs cpio zstd git"
TOOLS = (
    *("mmdebstrap", "qemu-system-x86_64", "qemu-img", "systemd-nspawn", "mke2fs", "cpio"),
    *("zstd", "git", "tar", "unshare", "setpriv"),
)

# prctl(2): the parent is the thread that started the process, not its whole process.
DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")

Note = Callable[[str], None]
Argv = list[str | Path]


class LabError(Exception):
    """The lab cannot do what was asked; ``status`` is the exit status to give."""

    def __init__(self, message: str, status: int = USAGE_STATUS) -> None:
        super().__init__(message)
        self.status = status


class CancelledError(LabError):
    """Someone asked the lab to stop."""

    def __init__(self) -> None:
        super().__init__("stopped", NO_VERDICT_STATUS)


@dataclass(frozen=True, slots=True)
class Home:
    """Where images and runs live, outside of any checkout."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def runs(self) -> Path:
        return self.root / "runs"


def home(environ: Mapping[str, str] = os.environ) -> Home:
    """``$SCOPEKEEPER_LAB``, else ``~/.cache/scopekeeper-lab``."""
    given = environ.get("SCOPEKEEPER_LAB")
    return Home(Path(given).absolute() if given else Path.home() / ".cache" / "scopekeeper-lab")


def check() -> None:
    """Raise one clear LabError when this host cannot run the lab."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabError(f"missing {', '.join(missing)}: apt-get install {APT_PACKAGES}")
    if os.geteuid() != 0:
        raise LabError("the lab mounts, chroots and starts containers: run it as root")


def start_time(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Clock ticks between the host's boot and the start of ``pid``; None unless it lives."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces and parentheses; what follows is field 3, the state,
    # and on; starttime is field 22 (proc(5)).
    state, *fields = stat.rpartition(")")[2].split()
    if state in "ZX":
        return None  # dead, but nobody has collected it
    return int(fields[18])


def owner_tag() -> str:
    """``PID-STARTTIME`` of this process: a name that no later process can have."""
    return f"{os.getpid()}-{start_time(os.getpid())}"


def owner_is_dead(name: str, proc: Path = Path("/proc")) -> bool:
    """True when ``name`` ends in an owner tag and a serial, and that owner provably ended."""
    parts = name.split("-")[-3:]
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        return False
    return start_time(int(parts[0]), proc) != int(parts[1])


@contextmanager
def locked(
    path: Path,
    stop: threading.Event,
    shared: bool = False,
    needless: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Hold ``path`` locked; wait for whoever else holds it, until ``stop`` or too long.

    Where it has become ``needless`` meanwhile, it is not locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_LIMIT_S
    with path.open("a") as file:
        while not _try_lock(file.fileno(), fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if needless():
                break
            if stop.wait(0.2):
                raise CancelledError
            if time.monotonic() > deadline:
                raise LabError(f"{path} is held by another run of the lab (flock)")
        yield


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run_logged(
    argv: Argv,
    log: Path,
    limit: float,
    stop: threading.Event | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run ``argv`` with its output appended to ``log``; LabError unless it exits 0 in time.

    Setting ``stop`` ends it and raises CancelledError.
    """
    stop = stop or threading.Event()
    deadline = time.monotonic() + limit
    with log.open("ab") as out:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True
        )
    try:
        while process.poll() is None:
            if stop.wait(0.05):
                raise CancelledError
            if time.monotonic() > deadline:
                raise LabError(f"{argv[0]} took longer than {limit:.0f} s; see {log}")
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise LabError(f"{argv[0]} exited {process.returncode}; end of {log}:\n{tail(log, 20)}")


def in_private_namespaces(argv: Argv) -> Argv:
    """``argv`` with mounts and processes of its own, all of which end with it.

    Killing the ``unshare``, or its parent, kills the namespace's first process, and with it
    every other one.
    """
    unshare = (
        *DIES_WITH_PARENT,
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    )
    return [*unshare, *argv]


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, or nothing when there is no such file."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def remove_tree(path: Path) -> None:
    """Remove a folder of ours, never crossing into another filesystem."""
    subprocess.run(["rm", "-rf", "--one-file-system", "--", path], check=False)
