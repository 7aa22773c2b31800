"""Ends scopes and members, many at once, and proves it.

Mark the record, so that nobody joins any more → SIGTERM, then SIGCONT → wait for ``populated 0``
up to the grace → ``cgroup.kill`` → verify → have the cgroup removed, by systemd or by us.

Killing is by cgroup, or by a pidfd whose cgroup was read after it was opened: never by a number.
Nothing is stopped that does not carry a record we can read.
"""

import contextlib
import errno
import fcntl
import os
import resource
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
_NO_RECORD, _NOTHING = "it has no record of ours", "nothing lives in it"
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


@dataclass(slots=True)
class _Held:
    """A target whose directory is held open.

    What is done goes by the descriptor: once the cgroup is removed nothing more is reached, also
    where a launch has made another of the same name.
    """

    result: Result
    fd: int
    signalled: set[int] = field(default_factory=set)

    @property
    def directory(self) -> str:
        """A path to the cgroup that was marked, and to no other."""
        return f"/proc/self/fd/{self.fd}"

    def is_there(self) -> bool:
        """Tell whether the cgroup still stands under its name."""
        try:
            return os.stat(self.result.target.directory).st_ino == os.fstat(self.fd).st_ino
        except OSError:
            return False


def target_of(selected: Selected, grace: float | None = None) -> Target:
    """Return the target that a selection means; grace in seconds overrides the launch's own."""
    scope, member = selected.scope, selected.member
    if grace is None:
        grace = GRACE if scope.grace is None else scope.grace / 1e6
    where = member or scope
    return Target(where.directory, where.cgroup, grace)


def stop(targets: Sequence[Target], *, reasons: Sequence[str]) -> list[Result]:
    """Stop all targets at once and return what was proved of each, in their order.

    reasons has one text for each target, which is kept in the record while it ends.
    """
    began = time.monotonic()
    _allow_descriptors(len(targets))
    results = [Result(target) for target in targets]
    with contextlib.ExitStack() as closing:
        held = []
        for result, reason in zip(results, reasons, strict=True):
            fd = _open(result)
            if fd is None:
                continue
            closing.callback(os.close, fd)
            result.problem = _mark(result.target, f"/proc/self/fd/{fd}", reason)
            if result.problem == _NOTHING:
                result.problem = ""
            elif result.problem:
                result.outcome = "refused"
            else:
                held.append(_Held(result, fd))
        _step_out([each.result.target for each in held])
        by_directory = {each.directory: each for each in held}
        with cgroup.EmptinessWatch(list(by_directory)) as watch:
            _terminate(by_directory, watch, began)
            _kill(by_directory, watch, began)
        for each in held:
            _judge(each)
            each.result.milliseconds = each.result.milliseconds or (time.monotonic() - began) * 1000
        _tidy([each for each in held if each.result.outcome != "remains"])
    return results


def finish(directory: str) -> None:
    """Bring a stop of a scope to its end whose own process was killed."""
    raw = cgroup.attribute(directory, records.ATTRIBUTE)
    if raw is None:
        return
    fields = records.loads(raw)
    path = directory[len(mount_point()) :]
    grace = int(fields["GRACE"]) / 1e6 if fields.get("GRACE", "").isdecimal() else GRACE
    stop([Target(directory, path, grace)], reasons=[fields.get("REASON", "")])


def _allow_descriptors(targets: int) -> None:
    """Raise the soft limit of open files to what so many targets take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * targets + 64
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _open(result: Result) -> int | None:
    """Open a target's directory; None where it is gone, or may not be opened."""
    try:
        return os.open(result.target.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in cgroup.GONE:
            result.outcome, result.problem = "refused", f"cannot open it: {error.strerror}"
        return None


def _mark(target: Target, directory: str, reason: str) -> str:
    """Write into the record that this is being stopped; return why it may not be."""
    try:
        _await_record(directory)
        with _locked(target.scope_directory):
            raw = cgroup.attribute(directory, records.ATTRIBUTE)
            if raw is None:
                # one that is only being made, or going away, has nothing in it to stop
                return _NO_RECORD if cgroup.is_populated(directory) else _NOTHING
            fields = records.loads(raw, records.OF_MEMBER if target.is_member else records.OF_SCOPE)
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
    return ""


def _await_record(directory: str) -> None:
    """Give a launch that has just made this the moment that it takes to write the record."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while (
        cgroup.attribute(directory, records.ATTRIBUTE) is None
        and cgroup.is_populated(directory)
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Hold the scope's lock alone, so that no launch is half in."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(fd)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    """Wait until no launcher is on its way in; not for one that hangs."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.001)


def _step_out(targets: Sequence[Target]) -> None:
    """Get out of what is about to be stopped, and past the hangup of its terminal."""
    own = cgroup.path_of()
    if any(cgroup.is_inside(own, target.cgroup) for target in targets):
        from scopekeeper.launch.aside import step_aside

        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        step_aside()


def _terminate(held: dict[str, _Held], watch: cgroup.EmptinessWatch, began: float) -> None:
    """Ask every process to end, those too that are started meanwhile, until the grace is over."""
    first = True
    while watch.left:
        elapsed = time.monotonic() - began
        waiting = {
            directory: held[directory].result.target.grace - elapsed
            for directory in watch.left
            if first or held[directory].result.target.grace > elapsed
        }
        for directory in waiting:
            _send(held[directory])
        longest = max(waiting.values(), default=0.0)
        if longest <= 0:
            return
        first = False
        _wait(held, watch, min(longest, _AGAIN), began)


def _send(each: _Held) -> None:
    """Send SIGTERM to whom it was not sent, and SIGCONT to those that are still there after it.

    A stopped process has to go on to end; one that runs is gone by the second look.
    """
    pids = cgroup.processes(each.directory)
    waiting = [pid for pid in pids if pid in each.signalled]
    cgroup.signal_processes(each.directory, waiting, signal.SIGCONT)
    new = [pid for pid in pids if pid not in each.signalled]
    reached = cgroup.signal_processes(each.directory, new, signal.SIGTERM)
    if reached:
        each.signalled |= reached
        each.result.terminated += len(reached)
        each.result.outcome = "terminated"


def _wait(
    held: dict[str, _Held], watch: cgroup.EmptinessWatch, seconds: float, began: float
) -> None:
    """Wait, and note when each of those that end has ended."""
    before = set(watch.left)
    watch.wait(seconds)
    for directory in before - watch.left:
        held[directory].result.milliseconds = (time.monotonic() - began) * 1000


def _kill(held: dict[str, _Held], watch: cgroup.EmptinessWatch, began: float) -> None:
    for directory in list(watch.left):
        result = held[directory].result
        result.killed = len(cgroup.processes(directory))
        if result.killed:
            result.outcome = "killed"
        cgroup.kill(directory)
    _wait(held, watch, _KILL_SECONDS, began)


def _judge(each: _Held) -> None:
    """Look once more, whatever was seen before: the proof is that nothing lives there now."""
    if cgroup.is_populated(each.directory):
        each.result.outcome = "remains"
        each.result.remaining = tuple(_remaining(pid) for pid in cgroup.processes(each.directory))


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


def _tidy(held: list[_Held]) -> None:
    """Have the emptied cgroups removed: by systemd where it made them, else by us."""
    managed = []
    for each in held:
        target = each.result.target
        if target.is_member:
            cgroup.remove(target.directory)
        elif manager_of(target.cgroup):
            managed.append(each)
        else:
            _remove_folder(each)
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while (managed := [each for each in managed if each.is_there()]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.005)
    for each in managed:
        _settle(each)


def _settle(each: _Held) -> None:
    """Tell systemd about a scope that it keeps although it is empty; remove what it forgot."""
    from scopekeeper import systemd
    from scopekeeper.errors import ManagerError

    target = each.result.target
    try:
        known = systemd.stop_unit(manager_of(target.cgroup), target.directory.rpartition("/")[2])
    except ManagerError:
        return  # what lived in it is gone, which is what was asked; reconcile tidies later
    if not known:
        _remove_folder(each)


def _remove_folder(each: _Held) -> None:
    removed = not each.is_there() or cgroup.remove(each.result.target.directory)
    if not removed and cgroup.is_populated(each.directory):
        _unmark(each.directory)  # somebody came in after the proof: a new life, not to be blocked


def _unmark(directory: str) -> None:
    raw = cgroup.attribute(directory, records.ATTRIBUTE)
    if raw is None:
        return
    fields = records.loads(raw)
    for key in ("STATE", "REASON", "STOPPER_PID", "STOPPER_START"):
        fields.pop(key, None)
    with contextlib.suppress(OSError):
        os.setxattr(directory, records.ATTRIBUTE, records.dumps(fields))
