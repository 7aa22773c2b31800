"""The launcher of a Python gateway: contains itself as ``run`` does, and becomes the command.

The gateway starts it where it cannot start a child in its leaf: where there is no scope yet, where
the C library is older than that, or where the MCP SDK starts the child. Its task comes over a
socket, and its reports go back: each is a tuple in marshal's format. The gateway reads the end of
the socket when the command runs.
"""

import marshal
import posix

from scopekeeper.errors import FAILED
from scopekeeper.launch import run, signals
from scopekeeper.launch.program import NOT_EXECUTABLE, original_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ENOENT, _ENOTDIR = 2, 20
_STDERR = 2


def main(fd: int) -> None:
    """Do what the socket says; never returns."""
    if fd == _STDERR:
        fd = _receive_stderr()
    posix.set_inheritable(fd, False)
    signals.die_by_interrupt()
    try:
        whole = b""
        while chunk := posix.read(fd, 65536):
            whole += chunk
        asked = marshal.loads(whole)  # noqa: S302  from the process that started this one
    except Exception:  # noqa: BLE001  the gateway was killed while it wrote
        posix._exit(FAILED)

    def say(*message: str | int) -> None:
        posix.write(fd, marshal.dumps(message))

    inner: dict[bytes, bytes] = dict(asked["environment"])
    try:
        directory, _ = run.contain(
            asked["options"],
            asked["name"],
            original_environment(),
            inner,
            warn=lambda text: say("warning", text),
        )
    except Exception as error:  # noqa: BLE001  the gateway raises it
        from scopekeeper.launch.failure import is_unavailable, reported, translated

        if asked["options"].get("if_unavailable") != "warn" or not is_unavailable(error):
            raised = translated(error)
            reported(error)
            say("failed", type(raised).__name__, raised.message, raised.hint)
            posix._exit(FAILED)
        say("warning", f"running uncontained: {reported(error)}")
        say("uncontained")
        inner = asked["environment"]
    else:
        say("member", directory, inner[b"SCOPEKEEPER_MEMBER"].decode("utf-8", "surrogateescape"))
    say("errno", _become(asked, inner))
    posix._exit(NOT_EXECUTABLE)


def _receive_stderr() -> int:
    """Return a copy of the socket that is stderr, and put the command's stderr in its place."""
    import socket

    with socket.socket(fileno=posix.dup(_STDERR)) as channel:
        _, fds, _, _ = socket.recv_fds(channel, 1, 1)
        if not fds:  # the gateway has ended
            posix._exit(FAILED)
        posix.dup2(fds[0], _STDERR)
        posix.close(fds[0])
        return channel.detach()


def _become(asked: "dict[str, Any]", environment: dict[bytes, bytes]) -> int:
    """Execute the first of the programs that can be; returns the error where none can."""
    import _signal  # type: ignore[import-not-found]  # built in

    run.drop_bus(environment, asked["options"])
    for number in asked["defaults"]:
        _signal.signal(number, _signal.SIG_DFL)
    if asked["umask"] is not None:
        posix.umask(asked["umask"])
    first, last = 0, _ENOENT
    for program in asked["programs"]:
        try:
            posix.execve(program, asked["argv"], environment)
        except OSError as error:
            last = error.errno or last
            if last not in (_ENOENT, _ENOTDIR):
                first = first or last
    return first or last
