"""Makes a place: a leaf with its record and no process yet, for a gateway to start a child in.

A child that is started with ``CLONE_INTO_CGROUP`` is born in the leaf and never moves.

systemd stops a scope as soon as its last process leaves (seen with 252 and 257), so an empty leaf
cannot keep it. A fork of this process, the *holder*, makes or joins the scope as a launch does, and
stays in the cgroup ``hold`` beside the leaves. It is not in the leaf itself, so that the kernel
reports the first process there (``cgroup.events``): then the holder completes the record and ends.
It also ends, and removes the leaf, if no process comes in time, and if the leaf is removed. Its pid
and start time are in the record meanwhile, and if it is killed, the leaf is a leftover like any
other empty one. Without systemd it works the same.
"""

import fcntl
import marshal
import os
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scopekeeper import errors, quantities
from scopekeeper.errors import FAILED, ScopekeeperError, UnavailableError, UsageError
from scopekeeper.history import launch_ledger
from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.launch import join, run, signals
from scopekeeper.launch.failure import translated
from scopekeeper.launch.member import NewMember
from scopekeeper.launch.oom_score import raise_to
from scopekeeper.launch.program import original_environment, say
from scopekeeper.launch.request import Request
from scopekeeper.scope import names, records
from scopekeeper.scope.client_of_call import client_of_call
from scopekeeper.scope.owner import LaunchOwner
from scopekeeper.scope.placement import Caller, Place, manager_of
from scopekeeper.scope.placement_options import common_ancestor

WITHIN = "1m"
_LONGEST_USEC = 3_600_000_000
_PAUSE = 0.1
"""Seconds between looks whether the leaf still exists: its removal wakes nobody."""
_MARKER = ("SESSION", "LANE", "RUN", "KIND", "SCOPE", "MEMBER")


@dataclass(frozen=True, slots=True)
class Placed:
    """A place that was made. Texts may have surrogate escapes."""

    directory: str
    """The leaf's directory in the cgroup2 hierarchy."""
    unit: str
    leaf: str
    name: str
    session: str
    lane: str
    run: str
    owner: str
    within: float
    """Seconds until the leaf is removed if no process is started in it."""
    environment: dict[str, str]
    """The variables that the child has to have."""
    unset: list[str]
    """The variables that the child may not have."""
    warnings: list[str]


class _Vacant(NewMember):
    """A member without a process yet. Until then, PID and START in its record are the holder's.

    The record says until when it waits, so that others can show it.
    """

    __slots__ = ()
    joining = records.PLACING

    def __init__(self, request: Request, owner: LaunchOwner, within: float) -> None:
        super().__init__(request, owner)
        self.record["JOINING"] = records.PLACED
        self.record["WAITS_UNTIL"] = str(proc.boottime() + round(within * 1e6))

    def arrive(self, path: str, place: Place) -> None:  # noqa: ARG002
        """Move this process into the cgroup beside the leaf at path; raises OSError."""
        hold = f"{path.rpartition('/')[0]}/{names.HOLD}"
        try:
            proc.make_cgroup(hold)
        except FileExistsError:
            pass
        proc.write(f"{hold}/cgroup.procs", "0")

    def leave(self, path: str, caller: Caller) -> bool:
        """Leave the scope for our former cgroup; return False if that is refused."""
        if not super().leave(path, caller):
            return False
        try:
            os.rmdir(f"{path.rpartition('/')[0]}/{names.HOLD}")
        except OSError:
            pass  # another holder is there
        return True


def place(options: dict[str, str]) -> Placed:
    """Make a place and return when it can be used; options are those of ``run``, and ``within``.

    The owner is the process that called this one. Raises ScopekeeperError.
    """
    within = options.get("within", WITHIN)
    try:
        usec = quantities.duration("within", within)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not 0 < usec <= _LONGEST_USEC:
        raise UsageError(f"--within: {within!r} is out of range; write more than 0, up to 1h")
    if not options.get("name"):
        raise UsageError("a place needs a name: no command gives it one", "give --name")
    options = {"parent": client_of_call()} | options
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    if not os.fork():
        try:
            os.close(ours)
            _hold(options, usec / 1e6, theirs)
        finally:
            os._exit(FAILED)  # never back into the caller's code
    os.close(theirs)
    with open(ours, "rb") as pipe:
        heard = pipe.read()
    if not heard:
        raise ScopekeeperError("the process that makes the place was killed", "try again")
    kind, *rest = marshal.loads(heard)  # noqa: S302  from our own child
    if kind == "failed":
        raise getattr(errors, rest[0])(*rest[1:])
    return Placed(*rest)


def _hold(options: dict[str, str], within: float, channel: int) -> None:
    """Make the place, report it on the channel, and hold its scope until a process has come."""
    os.setsid()  # a terminal's signals are for the caller
    signals.die_by_interrupt()

    def answer(*message: Any) -> None:  # noqa: ANN401
        with open(channel, "wb") as pipe:
            pipe.write(marshal.dumps(message))

    warnings: list[str] = []
    try:
        environment = original_environment()
        caller = Caller(for_child=True)
        if "require" in options:
            _require(options["require"])
        member, directory = _make(options, environment, caller, within, warnings)
    except Exception as error:  # noqa: BLE001  the caller raises it
        raised = translated(error)
        answer("failed", type(raised).__name__, raised.message, raised.hint)
        os._exit(FAILED)
    leaf = f"{directory}/{member.leaf}"
    try:
        answer("placed", *_report(options, environment, member, leaf, within, warnings))
    except BrokenPipeError:  # the caller was killed: nobody knows of the leaf
        within = 0.0
    _detach()
    if _await_process(leaf, within):
        _complete(member, directory, caller)
    _depart(member, directory, caller)
    os._exit(0)


def _require(paths: str) -> None:
    for path in paths.split("\0"):
        try:
            os.stat(path)
        except OSError as error:
            raise ScopekeeperError(f"required path {path}: {error.strerror}") from None


def _make(
    options: dict[str, str],
    environment: dict[bytes, bytes],
    caller: Caller,
    within: float,
    warnings: list[str],
) -> tuple[NewMember, str]:
    def vacant(request: Request, owner: LaunchOwner) -> _Vacant:
        return _Vacant(request, owner, within)

    request, owner, where = run.plan(options, "", environment, caller, warnings)
    _check_way(caller, where)
    if request.gate:
        from scopekeeper.launch.gate import pass_gate

        pass_gate(request, where, say)
    try:
        made = run.enter(request, owner, caller, where, warnings, vacant)
    except join.OtherOwnerError:
        request.run = request.run_beside(owner.label)
        made = run.enter(request, owner, caller, where, warnings, vacant)
    run.warn_of_ignored(request, owner, warnings)
    return made


def _check_way(caller: Caller, where: Place) -> None:
    """Raise UnavailableError if the kernel will refuse a child of the caller in the scope.

    As for a move, the caller has to be able to write to the ``cgroup.procs`` of the closest common
    ancestor. ``run`` asks systemd to move it then; for a birth nobody can be asked.
    """
    common = common_ancestor(caller, where.base)
    if proc.exists(f"{common}/cgroup.procs") and not os.access(f"{common}/cgroup.procs", os.W_OK):
        raise UnavailableError(
            f"a child of a process in {caller.path or '/'} cannot be born in {where}: uid "
            f"{caller.uid} may not write to {common}/cgroup.procs",
            "start the gateway as a service of the user's manager (systemd-run --user), or use "
            "scopekeeper run",
        )


def _report(
    options: dict[str, str],
    environment: dict[bytes, bytes],
    member: NewMember,
    leaf: str,
    within: float,
    warnings: list[str],
) -> tuple[Any, ...]:
    """Return the fields of a Placed, as marshal can write them."""
    inner = dict(environment)
    run.tell(inner, member)
    run.drop_bus(inner, options)
    if "real_shell" in options:
        from scopekeeper.launch.real_shell import name_real_shell

        name_real_shell(inner)
    marker = [f"SCOPEKEEPER_{name}".encode() for name in _MARKER]
    given = {k: v for k, v in inner.items() if k in marker or environment.get(k) != v}
    away = (*environment, *marker, *(run.BUS if "no_bus" in options else ()))
    unset = {name for name in away if name not in inner}
    request = member.request
    return (
        leaf, member.unit, member.leaf, request.name, request.session, request.lane, request.run,
        member.owner.label, within, {_text(k): _text(v) for k, v in given.items()},
        sorted(map(_text, unset)), warnings,
    )  # fmt: skip


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _detach() -> None:
    """Let go of everything that the caller gave us: who reads its pipes waits for their end."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2:
            try:
                os.close(fd)
            except OSError:
                pass  # that of the list itself
    os.chdir("/")


def _await_process(leaf: str, within: float) -> bool:
    """Wait until a process has come; return False if none came in time and the leaf is removed."""
    try:
        events = os.open(f"{leaf}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        deadline = time.monotonic() + within
        while True:
            # a process that has gone again by now has used some CPU time
            text = os.pread(events, 256, 0)
            if b"populated 1" in text or cgroupfs.keyed(
                proc.read(f"{leaf}/cpu.stat"), "usage_usec"
            ):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                try:
                    os.rmdir(leaf)
                except OSError as error:
                    return error.errno not in cgroupfs.GONE  # one has come in this moment
                return False
            poll.poll(min(left, _PAUSE) * 1000)
    except OSError as error:
        if error.errno not in cgroupfs.GONE:
            raise
        return False


def _complete(member: NewMember, directory: str, caller: Caller) -> None:
    """Write the first process into the record, and a line for the ledger of launches."""
    leaf = f"{directory}/{member.leaf}"
    found = []
    for pid in cgroupfs.processes(leaf):
        try:
            found.append((int(proc.start_time(pid)), pid))
        except OSError:
            continue  # it has ended
        if member.request.oom_score:
            raise_to(member.request.oom_score, pid, [])
    began, pid = min(found, default=(0, 0))
    fields = {"PID": str(pid), "START": str(began), "JOINING": "", "WAITS_UNTIL": ""}

    def change() -> None:
        raw = proc.attribute(leaf, records.ATTRIBUTE) or b""
        os.setxattr(leaf, records.ATTRIBUTE, records.dumps(records.loads(raw) | fields))

    try:
        _locked(directory, change)
    except (OSError, records.RecordError):
        pass  # it was removed, or its process has damaged the record
    member.record |= fields
    cgroup = directory[len(caller.mount) :]
    launch_ledger.append(launch_ledger.line(member.ledger_fields(cgroup)))


def _locked(directory: str, work: Callable[[], None]) -> None:
    """Do work while no stop and no planner changes a record of the scope; raises OSError."""
    fd = os.open(directory, cgroupfs.FOLDER)
    try:
        lock = proc.open_lock(fd)
    finally:
        os.close(fd)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        work()
    finally:
        os.close(lock)


def _depart(member: NewMember, directory: str, caller: Caller) -> None:
    """Leave no empty cgroup behind; systemd removes its own scopes."""
    has_left = member.leave(f"{directory}/{member.leaf}", caller)
    if has_left and not manager_of(directory[len(caller.mount) :]):
        try:
            os.rmdir(directory)  # refused by a leaf in it
        except OSError:
            pass


def serve() -> None:
    """Make a place for the Python API: options come over stdin, the answer goes to stdout."""
    options = marshal.loads(sys.stdin.buffer.read())  # noqa: S302  from the process that called
    message: tuple[Any, ...]
    try:
        placed = place(options)
    except ScopekeeperError as error:
        message = ("failed", type(error).__name__, error.message, error.hint)
    else:
        message = ("placed", *(getattr(placed, name) for name in Placed.__dataclass_fields__))
    sys.stdout.buffer.write(marshal.dumps(message))
    sys.stdout.buffer.flush()
