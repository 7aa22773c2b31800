"""Reads the arguments of ``subprocess.Popen``, for both ways to start a member."""

import errno
import os
import signal
import stat
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypedDict

from scopekeeper.errors import UsageError

Stream = int | IO[Any] | None


class PopenOptions(TypedDict, total=False):
    """The arguments of ``subprocess.Popen`` that a member can have."""

    bufsize: int
    executable: str | bytes | os.PathLike[str] | None
    stdin: Stream
    stdout: Stream
    stderr: Stream
    close_fds: bool
    shell: bool
    cwd: str | bytes | os.PathLike[str] | None
    env: Mapping[str, str] | Mapping[bytes, bytes] | None
    universal_newlines: bool | None
    restore_signals: bool
    start_new_session: bool
    pass_fds: Collection[int]
    encoding: str | None
    errors: str | None
    text: bool | None
    umask: int
    pipesize: int
    process_group: int | None
    startupinfo: None
    creationflags: int


class AsyncPopenOptions(PopenOptions, total=False):
    """The same, and the one that streams of asyncio have."""

    limit: int
    """Bytes that a stream buffers, by default 65536."""


_DEFAULTS: dict[str, Any] = {
    "bufsize": -1, "executable": None, "stdin": None, "stdout": None, "stderr": None,
    "close_fds": True, "shell": False, "cwd": None, "env": None, "universal_newlines": None,
    "restore_signals": True, "start_new_session": False, "pass_fds": (), "encoding": None,
    "errors": None, "text": None, "umask": -1, "pipesize": -1, "process_group": None,
    "startupinfo": None, "creationflags": 0,
}  # fmt: skip
_REFUSED = {
    "preexec_fn": "it is not safe beside threads; change the command instead",
    "user": "a member runs as its gateway does",
    "group": "a member runs as its gateway does",
    "extra_groups": "a member runs as its gateway does",
}


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and where and how it runs."""

    argv: list[bytes]
    programs: list[bytes]
    """Paths to try: the first that can be executed is the program."""
    shown: str | bytes
    """The program as the caller named it, for errors."""
    environment: dict[bytes, bytes]
    cwd: str | bytes | None
    umask: int | None
    pass_fds: tuple[int, ...]
    close_fds: bool
    defaults: tuple[int, ...]
    """Signals that get their default action back."""
    new_session: bool
    process_group: int
    """-1 is the caller's."""
    stdio: tuple[int, int, int] = (-1, -1, -1)
    """Descriptors that become 0, 1 and 2; -1 leaves one as it is."""

    @property
    def name(self) -> str:
        """The word that names the member where no name was given."""
        return os.fsdecode(self.argv[0])

    def failed(self, number: int) -> OSError:
        """Return the error of an execution, as ``Popen`` raises it."""
        return OSError(number, os.strerror(number), self.shown)


def read(args: Any, popen: Mapping[str, Any]) -> tuple[Command, dict[str, Any]]:  # noqa: ANN401
    """Read what ``Popen`` would be given: the command, and all arguments with their defaults.

    Raises UsageError if a member cannot have an argument, and the errors of Popen, also if the
    command cannot be executed.
    """
    for name, reason in _REFUSED.items():
        if popen.get(name) is not None:
            raise UsageError(f"{name} cannot be given to a member: {reason}")
    for name in popen.keys() - _DEFAULTS.keys() - _REFUSED.keys():
        raise TypeError(f"Popen has no argument {name!r}")
    asked = {**_DEFAULTS, **popen}
    _check_streams(asked)
    return _command(args, asked), asked


def _check_streams(asked: dict[str, Any]) -> None:
    """Set what concerns pipes to what counts: ``text``, ``bufsize``, ``line_buffering``."""
    if asked["startupinfo"] is not None or asked["creationflags"] != 0:
        raise ValueError("startupinfo and creationflags are only supported on Windows platforms")
    if asked["stdout"] is subprocess.STDOUT:
        raise ValueError("STDOUT can only be used for stderr")
    if {asked["text"], asked["universal_newlines"]} == {True, False}:
        raise subprocess.SubprocessError("text and universal_newlines contradict each other")
    text = any(asked[name] for name in ("encoding", "errors", "text", "universal_newlines"))
    bufsize = -1 if asked["bufsize"] is None else asked["bufsize"]
    asked["text"], asked["line_buffering"] = text, text and bufsize == 1
    asked["bufsize"] = -1 if asked["line_buffering"] else bufsize
    asked["close_fds"] = bool(asked["close_fds"] or asked["pass_fds"])


def _command(args: Any, asked: Mapping[str, Any]) -> Command:  # noqa: ANN401
    executable = asked["executable"]
    if isinstance(args, str | bytes | os.PathLike):
        if asked["shell"] and isinstance(args, os.PathLike):
            raise TypeError("path-like args is not allowed when shell is true")
        args = [args]
    args = list(args)
    argv = [os.fsencode(each) for each in args]
    if asked["shell"]:
        argv = [os.fsencode(executable or "/bin/sh"), b"-c", *argv]
    shown = (argv[0] if asked["shell"] else args[0]) if executable is None else executable
    shown = shown if isinstance(shown, str | bytes) else os.fsdecode(shown)
    environment = _environment(asked["env"])
    if any(b"\0" in each for each in (*argv, *environment, *environment.values())):
        raise ValueError("embedded null byte")
    cwd = asked["cwd"]
    if cwd is not None:
        _check_folder(cwd)
        cwd = os.fspath(cwd)
    defaults = tuple(
        int(number)
        for number in (signal.SIGPIPE, signal.SIGXFSZ)
        if asked["restore_signals"] or signal.getsignal(number) is not signal.SIG_IGN
    )
    return Command(
        argv,
        _programs(shown, asked["env"], cwd),
        shown,
        environment,
        cwd,
        asked["umask"] if asked["umask"] >= 0 else None,
        tuple(sorted({int(fd) for fd in asked["pass_fds"] if fd > 2})),
        asked["close_fds"],
        defaults,
        bool(asked["start_new_session"]),
        -1 if asked["process_group"] is None else asked["process_group"],
    )


def _environment(env: Mapping[Any, Any] | None) -> dict[bytes, bytes]:
    if env is None:
        return dict(os.environb)
    encoded = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    if any(b"=" in name for name in encoded):
        raise ValueError("illegal environment variable name")
    return encoded


def _check_folder(cwd: Any) -> None:  # noqa: ANN401
    """Raise what a change to the folder would raise."""
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
    """Return the paths to try, from the first that looks executable.

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
