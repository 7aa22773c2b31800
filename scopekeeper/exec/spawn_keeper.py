"""Starts a keeper without systemd, as a daemon.

It is reparented, in a session of its own, and inherits no terminal, descriptor, working directory
or variable; so nothing that ends the caller ends the keeper.
"""

import contextlib
import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Self

from scopekeeper import state
from scopekeeper.errors import StateError
from scopekeeper.regular_files import open_regular

LOG = "keeper.log"
_PASSED = (
    "HOME", "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "XDG_STATE_HOME",
    "SCOPEKEEPER_STATE", "SCOPEKEEPER_CONFIG", "SCOPEKEEPER_DEBUG", "SCOPEKEEPER_PLACEMENT",
)  # fmt: skip
"""Variables that say where files are."""
_LAST = 4096


class Starting:
    """A keeper that was started just now; use it with ``with``."""

    def __init__(self, command: Sequence[str], **variables: str) -> None:
        """Start it, with more variables; raises StateError, OSError."""
        self.log = state.make() / LOG
        log = _open(self.log)
        self._seen = os.fstat(log).st_size
        self._listens, theirs = os.pipe2(os.O_CLOEXEC)
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        try:
            _detach(command, environment | variables, theirs, log)
        finally:
            os.close(theirs)
            os.close(log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._listens)

    def fileno(self) -> int:
        """Return a descriptor that hangs up when the keeper listens, or has ended."""
        return self._listens

    @property
    def words(self) -> str:
        """Its last line of log, or ''."""
        with contextlib.suppress(OSError), open(self.log, "rb", opener=open_regular) as file:
            file.seek(max(self._seen, os.fstat(file.fileno()).st_size - _LAST))
            lines = file.read().decode("utf-8", "replace").splitlines()
            return next((line for line in reversed(lines) if line.strip()), "")
        return ""


def _open(path: pathlib.Path) -> int:
    try:
        return open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from None


def _detach(command: Sequence[str], environment: dict[str, str], output: int, error: int) -> None:
    """Execute a command as a reparented process."""
    sys.stderr.flush()
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    status = 127
    try:
        os.setsid()
        if os.fork():
            status = 0
        else:
            _become(command, environment, output, error)
    except BaseException:  # noqa: BLE001  this process must not continue as the caller
        os.write(error, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _become(command: Sequence[str], environment: dict[str, str], output: int, error: int) -> None:
    """Become the keeper. It is not the session's leader, so it cannot get a terminal."""
    os.chdir("/")
    os.umask(0o022)
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    nothing = os.open(os.devnull, os.O_RDWR)
    for source, target in ((nothing, 0), (output, 1), (error, 2)):
        os.dup2(source, target)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.execve(command[0], list(command), environment)  # noqa: S606  that is what is wanted
