"""Starts ``scopekeeper.launch.spawned``, which contains itself and becomes the command.

For what cannot be born in a leaf: the first member of a scope, one that replaces another, one with
an umask, and all of them with an older C library or where only systemd may move a process.
"""

import contextlib
import io
import marshal
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scopekeeper import errors
from scopekeeper.errors import ScopekeeperError, UnavailableError
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.python_api import posix_spawn
from scopekeeper.python_api.popen_arguments import Command
from scopekeeper.scope.placement import manager_of

if TYPE_CHECKING:
    import subprocess

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from scopekeeper.launch.spawned import main; main(int(sys.argv[2]))"
)
_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class UncontainedError(Exception):
    """The machine cannot contain it; reason says why."""

    def __init__(self, reason: ScopekeeperError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(slots=True)
class There:
    """What the launcher told."""

    warnings: list[str]
    directory: str = ""
    """The member's leaf."""
    errno: int = 0
    failed: tuple[str, str, str, int] | None = None


def start(
    process: "subprocess.Popen[Any]",
    execute: Callable[..., None],
    wanted: Command,
    asked: dict[str, Any],
    options: dict[str, str],
) -> There:
    """Have the process started by a launcher, with execute, which is ``Popen._execute_child``.

    Raises UncontainedError, ScopekeeperError, and the OSError of a command that is not executed.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = posix_spawn.above(theirs.fileno())
        try:
            execute(*_launching(asked, fd).values())
        finally:
            os.close(fd)
        theirs.close()
        there = _talk(ours, _message(wanted, options))
    if there.failed is not None or there.errno or not there.directory:
        _reap(process, there)
    if there.failed is not None:
        kind, message, hint, unavailable = there.failed
        reason: ScopekeeperError = getattr(errors, kind)(message, hint)
        raise UncontainedError(reason) if unavailable else reason
    if there.errno:
        raise wanted.failed(there.errno)
    if not there.directory:
        raise UnavailableError("the launcher was ended before it had contained the command")
    return there


def _launching(asked: dict[str, Any], fd: int) -> dict[str, Any]:
    """Return the arguments of ``Popen._execute_child`` for the launcher instead."""
    return asked | {
        "args": [sys.executable, "-IS", "-c", _START, _FOLDER, str(fd)],
        "executable": None,
        "shell": False,
        "env": None,
        "umask": -1,
        "restore_signals": True,
        "pass_fds": (*asked["pass_fds"], fd),
    }


def _message(wanted: Command, options: dict[str, str]) -> bytes:
    return marshal.dumps(
        {
            "options": options | {"parent": str(os.getpid())},
            "name": wanted.name,
            "argv": wanted.argv,
            "programs": wanted.programs,
            "environment": wanted.environment,
            "defaults": tuple(map(int, wanted.defaults)),
            "umask": wanted.umask,
        }
    )


def _talk(channel: socket.socket, message: bytes) -> There:
    """Say what to do, and hear until the command runs, or cannot."""
    told = b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        channel.sendall(message)
        channel.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionResetError):
        while chunk := channel.recv(65536):
            told += chunk
    there = There([])
    stream = io.BytesIO(told)
    while stream.tell() < len(told):
        kind, *rest = marshal.load(stream)  # noqa: S302  from our own child
        if kind == "warning":
            there.warnings.append(rest[0])
        elif kind == "member":
            there.directory = f"{rest[0]}/{rest[1]}"
        elif kind == "errno":
            there.errno = rest[0]
        else:
            there.failed = tuple(rest)
    return there


def _reap(process: "subprocess.Popen[Any]", there: There) -> None:
    """Let nothing be left of a launcher that did not become the command."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, 0)
    process._child_created = False  # type: ignore[attr-defined]  # noqa: SLF001  for __del__
    if there.directory:
        cgroupfs.remove(there.directory)
        scope = os.path.dirname(there.directory)
        if not manager_of(scope[len(mount_point()) :]):  # systemd removes its own
            with contextlib.suppress(OSError):
                os.rmdir(scope)
