"""The launcher of a Python gateway: contains itself as ``run`` does, and becomes the command.

It is started where the gateway cannot start a child in its leaf at once: where there is no scope
yet, or the C library is older than that. What it is to do comes over a socket, and so goes back
what it is told only in words, or an exit status, elsewhere: each message is a tuple of marshal's.
The socket is at its end when the command runs.
"""

import marshal
import posix

from scopekeeper.errors import FAILED
from scopekeeper.launch import run, signals
from scopekeeper.launch.program import NOT_EXECUTABLE, original_environment

_ENOENT, _ENOTDIR = 2, 20


def main(fd: int) -> None:
    """Do what the socket says; returns never."""
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

    inner: dict[bytes, bytes] = asked["environment"]
    try:
        directory = run.contain(
            asked["options"],
            asked["name"],
            original_environment(),
            inner,
            warn=lambda text: say("warning", text),
        )
    except Exception as error:  # noqa: BLE001  the gateway raises it
        from scopekeeper.launch.failure import is_unavailable, translated

        told = translated(error)
        say("failed", type(told).__name__, told.message, told.hint, int(is_unavailable(error)))
        posix._exit(FAILED)
    say("member", directory, inner[b"SCOPEKEEPER_MEMBER"].decode("utf-8", "surrogateescape"))
    _become(asked, inner)
    say("errno", asked["errno"])
    posix._exit(NOT_EXECUTABLE)


def _become(asked: "dict[str, object]", environment: dict[bytes, bytes]) -> None:
    """Execute the first of the programs that can be; returns where none can, with the error."""
    import _signal  # type: ignore[import-not-found]  # built in

    run.drop_bus(environment, asked["options"])  # type: ignore[arg-type]
    for number in asked["defaults"]:  # type: ignore[attr-defined]
        _signal.signal(number, _signal.SIG_DFL)
    if asked["umask"] is not None:
        posix.umask(asked["umask"])  # type: ignore[arg-type]
    first, last = 0, _ENOENT
    for program in asked["programs"]:  # type: ignore[attr-defined]
        try:
            posix.execve(program, asked["argv"], environment)  # type: ignore[arg-type]
        except OSError as error:
            last = error.errno or last
            if last not in (_ENOENT, _ENOTDIR):
                first = first or last
    asked["errno"] = first or last
