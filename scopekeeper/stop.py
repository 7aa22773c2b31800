"""Ends scopes and members, many at once, and proves it.

Mark the record, so that nobody joins any more → SIGTERM and SIGCONT → wait for ``populated 0``
up to the grace → ``cgroup.kill`` → verify → have the cgroup removed, by systemd or by us.

Killing is by cgroup, or by a pidfd whose cgroup was read after it was opened: never by a number.
Nothing is stopped that does not carry a record we can read.
"""

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scopekeeper import cgroup, names, records
from scopekeeper.launch.place import manager_of, mount_point, start_time
from scopekeeper.selection import Selected

GRACE = 5.0
"""Seconds between SIGTERM and the kill, where neither the stop nor the launch says another."""
_KILL_SECONDS = 5.0
"""Longer than any killable process takes; what is left then waits in the kernel (D state)."""
_LOCK_SECONDS = 1.0
_AGAIN = 0.1
"""Seconds between looks for processes that came to be after the signals were sent."""
_REMOVAL_SECONDS = 2.0
"""How long systemd may take to remove a cgroup before it is asked to."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to stop: a scope's directory, or that of one member's leaf in it."""

    directory: str
    cgroup: str
    grace: float = GRACE

    @property
    def is_member(self) -> bool:
        """Whether only one member of the scope is meant."""
        return names.parse_leaf(self.directory.rpartition("/")[2]) is not None

    @property
    def scope_directory(self) -> str:
        """The directory of the scope, also where a member is meant."""
        return self.directory.rpartition("/")[0] if self.is_member else self.directory


@dataclass(frozen=True, slots=True)
class Remaining:
    """A process that did not die, and where in the kernel it waits."""

    pid: int
    state: str
    wchan: str
    command: str


@dataclass(slots=True)
class Result:
    """What was proved of one target."""

    target: Target
    outcome: str = "empty"
    """One of empty (nothing lived in it), terminated, killed, remains, refused."""
    terminated: int = 0
    """Processes that were sent SIGTERM."""
    killed: int = 0
    """Processes that were still there after the grace and were killed."""
    milliseconds: float = 0.0
    remaining: tuple[Remaining, ...] = ()
    problem: str = ""
    signalled: set[int] = field(default_factory=set)


def target_of(selected: Selected, grace: float | None = None) -> Target:
    """Return the target that a selection means; grace in seconds overrides the launch's own."""
    scope, member = selected.scope, selected.member
    if grace is None:
        grace = GRACE if scope.grace is None else scope.grace / 1e6
    where = member or scope
    return Target(where.directory, where.cgroup, grace)


def stop(targets: Sequence[Target], *, reasons: Sequence[str], mount: str) -> list[Result]:
    """Stop all targets at once and return what was proved of each, in their order.

    reasons has one text for each target, which is kept in the record while it ends.
    """
    began = time.monotonic()
    results = [Result(target) for target in targets]
    running = []
    for result, reason in zip(results, reasons, strict=True):
        result.problem = _mark(result.target, reason)
        if result.problem:
            result.outcome = "refused"
        else:
            running.append(result)
    with _shielded(result.target for result in running):
        by_directory = {result.target.directory: result for result in running}
        with cgroup.EmptinessWatch(list(by_directory)) as watch:
            _terminate(by_directory, watch, began)
            _kill(by_directory, watch, began)
        for result in running:
            _judge(result)
            result.milliseconds = result.milliseconds or (time.monotonic() - began) * 1000
        _tidy([result for result in running if result.outcome != "remains"], mount)
    return results


def finish(directory: str) -> None:
    """Bring a stop of a scope to its end whose own process was killed."""
    raw = cgroup.attribute(directory, records.ATTRIBUTE)
    if raw is None:
        return
    fields = records.loads(raw)
    mount, path = _split(directory)
    grace = int(fields["GRACE"]) / 1e6 if fields.get("GRACE", "").isdecimal() else GRACE
    stop([Target(directory, path, grace)], reasons=[fields.get("REASON", "")], mount=mount)


def _split(directory: str) -> tuple[str, str]:
    mount = mount_point()
    return mount, directory[len(mount) :]


def _mark(target: Target, reason: str) -> str:
    """Write into the record that this is being stopped; return why it may not be."""
    directory = target.directory
    try:
        fd = os.open(target.scope_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return "" if error.errno in cgroup.GONE else f"cannot open it: {error.strerror}"
    try:
        _lock(fd)
        raw = cgroup.attribute(directory, records.ATTRIBUTE)
        if raw is None:
            return "" if not os.path.isdir(directory) else "it has no record of ours"
        fields = records.loads(raw)
        fields |= {
            "STATE": "stopping",
            "REASON": reason,
            "STOPPER_PID": str(os.getpid()),
            "STOPPER_START": start_time("self"),
        }
        os.setxattr(directory, records.ATTRIBUTE, records.dumps(fields))
    except records.RecordError as error:
        return str(error)
    except OSError as error:
        if error.errno in cgroup.GONE:
            return ""
        if error.errno in (errno.EPERM, errno.EACCES):
            return f"it belongs to uid {os.stat(directory).st_uid}; stop it as that user or as root"
        return f"cannot mark it: {error.strerror}"
    finally:
        os.close(fd)
    return ""


def _lock(fd: int) -> None:
    """Wait until no launcher is on its way in; not for one that hangs."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.001)


@contextlib.contextmanager
def _shielded(targets: Iterator[Target]) -> Iterator[None]:
    """Get out of what is about to be stopped, and past the hangup of its terminal."""
    own = cgroup.path_of()
    if not any(cgroup.is_inside(own, target.cgroup) for target in targets):
        yield
        return
    from scopekeeper.launch.aside import step_aside

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    step_aside()
    yield


def _terminate(results: dict[str, Result], watch: cgroup.EmptinessWatch, began: float) -> None:
    """Ask every process to end, those too that are started meanwhile, until the grace is over."""
    while watch.left:
        waiting = {
            directory: left
            for directory in watch.left
            if (left := results[directory].target.grace - (time.monotonic() - began)) > 0
            or not results[directory].signalled
        }
        if not waiting:
            return
        for directory in waiting:
            _send(results[directory])
        before = set(watch.left)
        longest = max(waiting.values())
        watch.wait(max(0.0, min(longest, _AGAIN)))
        _note_ends(results, before - watch.left, began)
        if all(left <= 0 for left in waiting.values()):
            return


def _send(result: Result) -> None:
    for pid in cgroup.processes(result.target.directory):
        if pid not in result.signalled and cgroup.signal_process(
            pid, result.target.cgroup, signal.SIGTERM, signal.SIGCONT
        ):
            result.signalled.add(pid)
            result.terminated += 1
            result.outcome = "terminated"


def _note_ends(results: dict[str, Result], ended: set[str], began: float) -> None:
    for directory in ended:
        results[directory].milliseconds = (time.monotonic() - began) * 1000


def _kill(results: dict[str, Result], watch: cgroup.EmptinessWatch, began: float) -> None:
    for directory in list(watch.left):
        result = results[directory]
        result.killed = len(cgroup.processes(directory))
        if result.killed:
            result.outcome = "killed"
        cgroup.kill(directory)
    before = set(watch.left)
    watch.wait(_KILL_SECONDS)
    _note_ends(results, before - watch.left, began)


def _judge(result: Result) -> None:
    """Look once more, whatever was seen before: the proof is that nothing lives there now."""
    if cgroup.is_populated(result.target.directory):
        result.outcome = "remains"
        result.remaining = tuple(
            _remaining(pid) for pid in cgroup.processes(result.target.directory)
        )


def _remaining(pid: int) -> Remaining:
    def text(name: str) -> str:
        try:
            with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    stat = text("stat").rpartition(")")[2].split()
    command = text("cmdline").replace("\0", " ").strip() or text("comm").strip()
    return Remaining(pid, stat[0] if stat else "?", text("wchan") or "?", command)


def _tidy(results: list[Result], mount: str) -> None:
    """Have the emptied cgroups removed: by systemd where it made them, else by us."""
    managed = []
    for result in results:
        directory = result.target.directory
        if result.target.is_member:
            cgroup.remove(directory)
        elif manager_of(directory[len(mount) :]):
            managed.append(directory)
        else:
            _remove_folder(directory)
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while managed and time.monotonic() < deadline:
        managed = [directory for directory in managed if os.path.isdir(directory)]
        if managed:
            time.sleep(0.005)
    for directory in managed:
        _settle(directory, manager_of(directory[len(mount) :]))


def _settle(directory: str, manager: str) -> None:
    """Tell systemd about a scope that it keeps although it is empty; remove what it forgot."""
    from scopekeeper import systemd
    from scopekeeper.errors import ManagerError

    unit = directory.rpartition("/")[2]
    try:
        known = systemd.stop_unit(manager, unit)
    except ManagerError:
        return  # what lived in it is gone, which is what was asked; reconcile tidies later
    if not known:
        _remove_folder(directory)


def _remove_folder(directory: str) -> None:
    if not cgroup.remove(directory) and cgroup.is_populated(directory):
        _unmark(directory)  # somebody came in after the proof: a new life, not to be blocked


def _unmark(directory: str) -> None:
    raw = cgroup.attribute(directory, records.ATTRIBUTE)
    if raw is None:
        return
    fields = records.loads(raw)
    for key in ("STATE", "REASON", "STOPPER_PID", "STOPPER_START"):
        fields.pop(key, None)
    with contextlib.suppress(OSError):
        os.setxattr(directory, records.ATTRIBUTE, records.dumps(fields))
