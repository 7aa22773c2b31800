"""What is asked of ``Popen``, read as it reads it, so that both ways to start it agree."""

import errno
import os
import signal
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scopekeeper.errors import UsageError
from scopekeeper.python_api import posix_spawn

_REFUSED = {
    "preexec_fn": "it is not safe beside threads; change the command instead",
    "user": "a member runs as its gateway does",
    "group": "a member runs as its gateway does",
    "extra_groups": "a member runs as its gateway does",
}


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and where and how it is to run."""

    argv: list[bytes]
    programs: list[bytes]
    """Paths to be executed: the first of them that can be."""
    shown: str | bytes
    """How the program was called, for errors."""
    environment: dict[bytes, bytes]
    cwd: str | bytes | None
    defaults: tuple[int, ...]
    umask: int | None
    plan: posix_spawn.Plan

    @property
    def name(self) -> str:
        """The word that the member is named after where no name was given."""
        return os.fsdecode(self.argv[0])

    @property
    def is_plain(self) -> bool:
        """Whether posix_spawn(3) can do it all."""
        return self.umask is None and max(self.plan.pass_fds, default=0) <= posix_spawn.FD_MOST

    def failed(self, number: int) -> OSError:
        """Return the error of an execution, as ``Popen`` has it."""
        return OSError(number, os.strerror(number), self.shown)


def refuse(popen: Mapping[str, Any]) -> None:
    """Raise UsageError for what ``Popen`` can do and a member cannot."""
    for name, reason in _REFUSED.items():
        if popen.get(name) is not None:
            raise UsageError(f"{name} cannot be given to a member: {reason}")


def read(asked: Mapping[str, Any]) -> Command:
    """Read the arguments of ``Popen._execute_child``; raises OSError where it cannot run."""
    args, executable = asked["args"], asked["executable"]
    if isinstance(args, str | bytes | os.PathLike):
        if asked["shell"] and isinstance(args, os.PathLike):
            raise TypeError("path-like args is not allowed when shell is true")
        args = [args]
    argv = [os.fsencode(each) for each in args]
    if asked["shell"]:
        argv = [b"/bin/sh", b"-c", *argv]
        if executable:
            argv[0] = os.fsencode(executable)
    shown = (argv[0] if asked["shell"] else args[0]) if executable is None else executable
    shown = shown if isinstance(shown, str | bytes) else os.fsdecode(shown)
    environment = _environment(asked["env"])
    if any(b"\0" in each for each in (*argv, *environment, *environment.values())):
        raise ValueError("embedded null byte")
    cwd = asked["cwd"]
    if cwd is not None:
        _enter(cwd)
        cwd = os.fspath(cwd)
    defaults = tuple(
        number
        for number in (signal.SIGPIPE, signal.SIGXFSZ)
        if asked["restore_signals"] or signal.getsignal(number) is not signal.SIG_IGN
    )
    plan = posix_spawn.Plan(
        argv,
        (asked["p2cread"], asked["c2pwrite"], asked["errwrite"]),
        cwd,
        tuple(map(int, asked["pass_fds"])),
        bool(asked["close_fds"]),
        defaults if asked["restore_signals"] else (),
        bool(asked["start_new_session"]),
        -1 if asked["process_group"] is None else asked["process_group"],
    )
    programs = _programs(shown, asked["env"], cwd)
    umask = asked["umask"] if asked["umask"] >= 0 else None
    return Command(argv, programs, shown, environment, cwd, defaults, umask, plan)


def _environment(env: Mapping[Any, Any] | None) -> dict[bytes, bytes]:
    if env is None:
        return dict(os.environb)
    encoded = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    if any(b"=" in name for name in encoded):
        raise ValueError("illegal environment variable name")
    return encoded


def _enter(cwd: Any) -> None:  # noqa: ANN401
    """Raise what a change to the folder would."""
    number = 0
    try:
        if not stat.S_ISDIR(os.stat(cwd).st_mode):
            number = errno.ENOTDIR
        elif not os.access(cwd, os.X_OK):
            number = errno.EACCES
    except OSError as error:
        number = error.errno or errno.ENOENT
    if number:
        raise OSError(number, os.strerror(number), cwd)


def _programs(
    shown: str | bytes, env: Mapping[Any, Any] | None, cwd: str | bytes | None
) -> list[bytes]:
    """Return the paths to try, from the first that looks as if it can be executed.

    Raises OSError where none does: then nothing was made yet.
    """
    name = os.fsencode(shown)
    paths: Sequence[bytes] = [name]
    if not os.path.dirname(name):
        paths = [os.path.join(os.fsencode(folder), name) for folder in os.get_exec_path(env)]
    first = last = 0
    for at, path in enumerate(paths):
        whole = path if cwd is None else os.path.join(os.fsencode(cwd), path)
        try:
            is_file = stat.S_ISREG(os.stat(whole).st_mode)
            last = 0 if is_file and os.access(whole, os.X_OK) else errno.EACCES
        except OSError as error:
            last = error.errno or errno.ENOENT
        if not last:
            return list(paths[at:])
        if last not in (errno.ENOENT, errno.ENOTDIR):
            first = first or last
    number = first or last or errno.ENOENT
    raise OSError(number, os.strerror(number), shown)
