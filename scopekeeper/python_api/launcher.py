"""Starts ``scopekeeper.launch.spawned``, which contains itself and becomes the command.

For what cannot be born in a leaf: the first member of a scope, one that replaces another, one with
a umask, all of them with an older C library or where only systemd may move a process, and the
servers that the MCP SDK starts.
"""

import contextlib
import io
import marshal
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scopekeeper import errors
from scopekeeper.errors import UnavailableError
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.python_api import posix_spawn
from scopekeeper.python_api.options import in_python
from scopekeeper.python_api.popen_arguments import Command
from scopekeeper.scope.placement import manager_of

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from scopekeeper.launch.spawned import main; main(int(sys.argv[2]))"
)
STDERR = 2
_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass(slots=True)
class Launch:
    """What a launcher has reported."""

    directory: str = ""
    """The member's leaf; '' where the command runs uncontained, or not at all."""
    scope: str = ""
    member: str = ""
    error: Exception | None = None
    """Why the command does not run."""


def start(
    command: Command, options: dict[str, str], say: Callable[[str], None]
) -> tuple[int, Launch]:
    """Have a launcher start the command; return its pid when the command runs.

    say gets each warning as it comes, and what the launch waits for.
    Raises ScopekeeperError, and the OSError of a command that is not executed.
    """
    stdin, stdout, stderr = (None if fd < 0 else fd for fd in command.stdio)
    ours, theirs = socket.socketpair()
    with ours, contextlib.ExitStack() as closing:
        closing.callback(theirs.close)
        channel = posix_spawn.above(theirs.fileno())
        closing.callback(os.close, channel)
        # Without close_fds there is no pass_fds, so stderr is the channel; and without a folder
        # there is posix_spawn(3), which in glibc 2.36 has the child ignore signals 32 and 33.
        is_passed = command.close_fds
        process = subprocess.Popen(
            [sys.executable, *arguments_of(channel if is_passed else STDERR)],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr if is_passed else channel,
            cwd=command.cwd or (None if is_passed else "."),
            close_fds=command.close_fds,
            pass_fds=(*command.pass_fds, channel) if is_passed else (),
            start_new_session=command.new_session,
            process_group=None if command.process_group < 0 else command.process_group,
        )
        closing.close()
        sent = None if is_passed else STDERR if stderr is None else stderr
        launch: Launch | None = None
        try:
            launch = talk(ours, command, options, say, sent)
        finally:
            if launch is None:  # interrupted
                process.kill()
            if launch is None or launch.error:
                process.wait()
            process.returncode = 0  # whatever it is: the caller reaps the child from now on
    if launch.error:
        remove(launch)
        raise launch.error
    return process.pid, launch


def arguments_of(channel: int) -> list[str]:
    """Return the interpreter's arguments for a launcher that listens on a descriptor."""
    return ["-IS", "-c", _START, _FOLDER, str(channel)]


def talk(
    channel: socket.socket,
    command: Command,
    options: dict[str, str],
    say: Callable[[str], None],
    stderr: int | None = None,
) -> Launch:
    """Send a launcher its command, and wait until that runs, or cannot.

    say gets each warning as it comes. ``stderr`` is the command's, for a launcher that has the
    channel there.
    """
    message = {
        "options": options | {"parent": str(os.getpid())},
        "name": command.name,
        "argv": command.argv,
        "programs": command.programs,
        "environment": command.environment,
        "umask": command.umask,
        "defaults": command.defaults,
    }
    launch = Launch(error=UnavailableError("the launcher ended before it contained the command"))
    heard = b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        if stderr is not None:
            socket.send_fds(channel, [b"\0"], [stderr])
        channel.sendall(marshal.dumps(message))
        channel.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionResetError):
        while chunk := channel.recv(65536):
            messages, heard = _split(heard + chunk)
            for kind, *rest in messages:
                if kind == "warning":
                    say(*rest)
                else:
                    _note(launch, command, kind, *rest)
    return launch


def _split(heard: bytes) -> tuple[list[Any], bytes]:
    """Return the whole messages, and what follows: a part of one, or no message at all."""
    stream, messages, end = io.BytesIO(heard), list[Any](), 0
    with contextlib.suppress(EOFError, ValueError, TypeError):
        while end < len(heard):
            message = marshal.load(stream)  # noqa: S302  from our own child
            if not isinstance(message, tuple):
                break  # it is the text of an interpreter that cannot start
            messages.append(message)
            end = stream.tell()
    return messages, heard[end:]


def _note(launch: Launch, command: Command, kind: str, *rest: Any) -> None:  # noqa: ANN401
    if kind == "member":
        directory, launch.member = rest
        launch.directory, launch.error = f"{directory}/{launch.member}", None
        launch.scope = os.path.basename(directory)
    elif kind == "uncontained":
        launch.error = None
    elif kind == "errno":
        launch.error = command.failed(*rest)
    elif kind == "failed":
        launch.error = getattr(errors, rest[0])(*map(in_python, rest[1:]))


def remove(launch: Launch) -> None:
    """Remove the leaf, and the scope, of a launcher that has ended before the command ran."""
    if launch.directory:
        cgroupfs.remove(launch.directory)
        scope = os.path.dirname(launch.directory)
        if not manager_of(scope[len(mount_point()) :]):  # systemd removes its own
            with contextlib.suppress(OSError):
                os.rmdir(scope)
