"""Starts a run: makes its terminal, hands it to the keeper, and executes the command in a child.

The keeper holds the terminal first, then knows the process, and only then does that process become
the command. Killed at any step, nothing runs unseen and no output is lost.
"""

import contextlib
import fcntl
import os
import struct
import termios
import time

from scopekeeper.clients import identity
from scopekeeper.data import dataclass, replace
from scopekeeper.errors import FAILED, InterruptedWorkError, UnavailableError
from scopekeeper.exec.client import Connection
from scopekeeper.exec.run import Run, plain
from scopekeeper.kernel.proc import boot_id, boottime, start_time
from scopekeeper.launch import program
from scopekeeper.launch import run as run_
from scopekeeper.launch.request import Request
from scopekeeper.policy.cached import CachedRules
from scopekeeper.quantities import duration
from scopekeeper.scope import choose_placement
from scopekeeper.scope.names import lane_class
from scopekeeper.scope.owner import find_owner
from scopekeeper.scope.placement import Caller

_READY = b"1"
_TERM = b"xterm-256color"
_ARGV_KEPT = 4096
"""Characters of a command line that is kept whole."""


class NotStartedError(Exception):
    """The command was not started; the reason is on stderr."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"exit status {status}")


class NotHeldError(UnavailableError):
    """The keeper hung up before it held anything; nothing was started."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The request, beside the options of ``run``; durations in microseconds."""

    command: tuple[str, ...]
    options: dict[str, str]
    tty: bool = True
    cols: int = 80
    rows: int = 24
    timeout: int | None = None
    no_output_timeout: int | None = None
    log_max: int | None = None


def describe(wish: Wish) -> tuple[Run, dict[str, str]]:
    """Return the run for a request, and the options of its launch; raises ValueError."""
    run_id = os.urandom(4).hex()
    options = {"kind": "pty", **wish.options, "run": run_id}
    options["parent"] = str(os.getppid() or 1)
    environment = program.original_environment()
    rules = CachedRules(list[str]())  # the launch reports problems of the rules
    request = _request(options, environment, wish, rules)
    said = {} if request.lifetime == "detached" else rules(lane_class(request.lane))
    session = request.session or find_owner(Caller(), request.owner, options["parent"]).label
    run = Run(
        id=run_id,
        session=session,
        lane=request.lane,
        name=request.name,
        session_id=request.session_id,
        lifetime=request.lifetime,
        argv=_kept(wish.command),
        started=time.time_ns() // 1000,
        born=boottime(),
        boot_id=boot_id(),
        tty=wish.tty,
        cols=wish.cols,
        rows=wish.rows,
        timeout=_duration("timeout", wish.timeout, said),
        no_output_timeout=_duration("no_output_timeout", wish.no_output_timeout, said),
    )
    if wish.log_max is not None:
        run = replace(run, log_max=wish.log_max)
    return run, options


def _request(
    options: dict[str, str], environment: dict[bytes, bytes], wish: Wish, rules: CachedRules
) -> Request:
    """Return the request as the launch will read it."""
    silent = list[str]()  # the launch warns
    named = identity.of_launch(
        options, environment, options.get("parent", ""), silent,
        configured=True, scope=Caller().scope_directory,
    )  # fmt: skip
    return Request(options, environment, wish.command[0], rules, named)


def _kept(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command line as the keeper and the history keep it, cut if it is long."""
    if sum(map(len, command)) < _ARGV_KEPT:
        return command
    from scopekeeper.history.end import cut_argv

    return cut_argv(list(command))


def _duration(name: str, wished: int | None, said: dict[str, str]) -> int | None:
    """Return a limit as requested, else that of the lane's rules."""
    if wished is None and name in said:
        return duration(name, said[name])
    return wished


def check(wish: Wish) -> None:
    """Raise what the launch would raise if its command or a place for its scope is missing.

    For a look before a keeper is started for it. Raises NotStartedError, ScopekeeperError,
    ValueError.
    """
    program.find_program(wish.command[0])
    _, options = describe(wish)
    request = _request(options, program.original_environment(), wish, CachedRules(list[str]()))
    outlives = request.lifetime != "gateway"
    choose_placement.find(Caller(for_child=True), request.placement, outlives=outlives)


def start(wish: Wish, connection: Connection) -> tuple[Run, int]:
    """Start a run and return it with the pid of its command, a child of this process.

    Raises NotStartedError, NotHeldError, SilentError, ScopekeeperError, ValueError.
    """
    run, options = describe(wish)
    ends = _Ends(wish)
    try:
        try:
            connection.ask(*ends.ours, do="hold", run=plain(run))
        except UnavailableError as error:
            raise NotHeldError(error.message, error.hint) from None
        child = _Child(options, wish, ends)
    finally:
        ends.close()
    try:
        connection.ask(child.pidfd, do="started", run=run.id, pid=child.pid, start=child.start_time)
    except BaseException:
        child.give_up()
        raise
    try:
        has_begun = child.go()
    except KeyboardInterrupt:  # the child has a session of its own, and is not interrupted
        text = f"its command starts as the run {run.id}; `scopekeeper stop {run.id}` ends it"
        raise InterruptedWorkError(text) from None
    if not has_begun:
        _, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        code = code if code >= 0 else FAILED
        connection.ask(do="failed", run=run.id, status=code)
        raise NotStartedError(code)
    return replace(run, pid=child.pid, start_time=child.start_time), child.pid


class _Ends:
    """The two sides of a run's terminal, or of its pipes."""

    def __init__(self, wish: Wish) -> None:
        if wish.tty:
            master, slave = os.openpty()
            self.ours, self.theirs = [master], [slave, slave, slave]
            size = struct.pack("4H", wish.rows, wish.cols, 0, 0)
            fcntl.ioctl(master, termios.TIOCSWINSZ, size)
        else:
            input_, ours_in = os.pipe2(os.O_CLOEXEC)
            ours_out, output = os.pipe2(os.O_CLOEXEC)
            self.ours, self.theirs = [ours_in, ours_out], [input_, output, output]

    def close(self) -> None:
        for fd in {*self.ours, *self.theirs}:
            os.close(fd)


class _Child:
    """The process that becomes the command after ``go``."""

    def __init__(self, options: dict[str, str], wish: Wish, ends: _Ends) -> None:
        go, self._go = os.pipe2(os.O_CLOEXEC)
        self._ready, ready = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if not self.pid:
            os.close(self._go)
            os.close(self._ready)
            _become(options, wish, ends, go, ready)
        os.close(go)
        os.close(ready)
        try:
            self.pidfd = os.pidfd_open(self.pid)
            self.start_time = int(start_time(self.pid))
        except BaseException:
            self.give_up()
            raise

    def go(self) -> bool:
        """Let it become the command; False if that failed."""
        os.close(self.pidfd)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._go, _READY)
        os.close(self._go)
        said = b""
        while piece := os.read(self._ready, 16):
            said += piece
        os.close(self._ready)
        return said == _READY

    def give_up(self) -> None:
        """End it before it has done anything."""
        os.close(self._go)
        os.waitpid(self.pid, 0)


def _keep_descriptors_here() -> None:
    """Have the command inherit 0, 1 and 2 only.

    Other descriptors of the caller do not belong in a command that outlives it: the terminal of
    another run, or sockets by which the caller recognises its own children.
    """
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing is closed by now
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def _prepare() -> None:
    """Import what the launch needs now, while the keeper takes note of this process."""
    with contextlib.suppress(ImportError, OSError, MemoryError):  # the launch reports it
        from scopekeeper.launch import create_unit, join  # noqa: F401


def _become(options: dict[str, str], wish: Wish, ends: _Ends, go: int, ready: int) -> None:
    """Enter the scope, then become the command, with its terminal; never returns."""
    status = FAILED
    _prepare()
    try:
        if os.read(go, 1) != _READY:
            os._exit(status)
        _keep_descriptors_here()
        os.setsid()
        input_, output, error = ends.theirs
        os.dup2(input_, 0)
        os.dup2(output, 1)

        def last() -> None:
            # only now, so that earlier errors go to the caller's stderr
            os.dup2(error, 2)
            os.write(ready, _READY)

        if wish.tty:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        defaults = {b"TERM": _TERM} if wish.tty else {}
        run_.run(options, list(wish.command), last=last, defaults=defaults)
    except OSError as problem:
        program.say(f"the command was not started: {problem.strerror}")
    finally:
        os._exit(status)
