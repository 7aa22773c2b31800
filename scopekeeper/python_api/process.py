"""A member as a ``subprocess.Popen``, started in a leaf of its session's scope."""

import contextlib
import dataclasses
import errno
import logging
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel import proc
from scopekeeper.launch import run
from scopekeeper.launch.failure import is_unavailable, translated
from scopekeeper.python_api import child, launcher, popen_arguments, posix_spawn
from scopekeeper.python_api.child import Child
from scopekeeper.python_api.limits import named_limits
from scopekeeper.python_api.options import in_python, renamed
from scopekeeper.python_api.popen_arguments import Command
from scopekeeper.python_api.popen_interface import PopenInterface

log = logging.getLogger("scopekeeper")
"""Warnings of launches that go on."""


def warn(texts: Sequence[str]) -> None:
    """Log warnings of a launch, with the names of arguments instead of those of options."""
    for text in texts:
        warn_of(text)


def warn_of(text: str) -> None:
    """Log one warning of a launch, or what it waits for."""
    log.warning(in_python(text))


@dataclass(frozen=True, slots=True)
class Session:
    """What launches of one session share."""

    options: dict[str, str]
    """As ``run`` has them, with ``_`` for ``-``."""
    making: threading.Lock = field(default_factory=threading.Lock)
    """Held while a scope is made, so that one thread makes it and the others join."""


class Process(PopenInterface):
    """A started member; what ``subprocess.Popen`` has, and where it lives."""

    scope = ""
    """The unit of its scope; '' where it was started uncontained."""
    member = ""
    """The name of its leaf there, which is the name and an id."""
    directory = ""
    """The leaf's directory in the cgroup2 hierarchy."""
    start_time = ""

    def __init__(self, args: Any, session: Session, **popen: Any) -> None:  # noqa: ANN401
        """Start it, and return when the command runs.

        Raises what ``Popen`` raises where the command cannot be executed, else ScopekeeperError.
        """
        super().__init__(args)
        with named_limits():
            self._read_and_start(args, session, popen)

    def _read_and_start(self, args: Any, session: Session, popen: dict[str, Any]) -> None:  # noqa: ANN401
        command, asked = popen_arguments.read(args, popen)
        audited = (command.shown, command.argv, command.cwd, command.environment)
        sys.audit("subprocess.Popen", *audited)
        with contextlib.ExitStack() as later:
            try:
                stdio = self._open(asked, later)
                self._start(dataclasses.replace(command, stdio=stdio), session)
            except BaseException:
                self._close()
                raise

    def _start(self, command: Command, session: Session) -> None:
        if posix_spawn.can_start(command) and "replace" not in session.options:
            with contextlib.suppress(posix_spawn.CannotPlaceError):
                if self._join(command, session.options):
                    return
                with session.making:  # whoever had it before has made the scope
                    if not self._join(command, session.options):
                        self._launch(command, session.options)
                    return
        self._launch(command, session.options)

    def _join(self, command: Command, options: dict[str, str]) -> bool:
        """Start it in a scope that exists; False where none can be joined just now."""
        options = options | {"parent": str(os.getpid())}

        def bear(leaf: int, born: Child) -> int:
            environment = dict(command.environment)
            run.tell(environment, born)
            run.drop_bus(environment, options)
            try:
                pid, failed = posix_spawn.spawn(leaf, command, environment)
            except posix_spawn.CannotPlaceError as error:
                if error.number == errno.ENODEV:  # the leaf has gone: there can be another
                    raise OSError(error.number, str(error)) from None
                raise
            except BlockingIOError as error:  # a limit of tasks
                raise _NotExecutedError(error.errno) from None
            if failed:
                raise _NotExecutedError(failed)
            return pid

        try:
            born = child.join(options, command.name, dict(os.environb), bear, warn_of)
        except _NotExecutedError as error:
            raise command.failed(error.args[0]) from None
        except (ScopekeeperError, ValueError, OSError, LookupError) as error:
            if is_unavailable(error):
                return False  # the launcher fails too, and reports why, or finds a way
            raise renamed(translated(error)) from None
        if born is None:
            return False
        self._is_started(born.pid, born.directory)
        warn(born.warnings)
        return True

    def _launch(self, command: Command, options: dict[str, str]) -> None:
        pid, launch = launcher.start(command, options, warn_of)
        self._is_started(pid, launch.directory)

    def _is_started(self, pid: int, directory: str) -> None:
        self.pid, self.directory = pid, directory
        scope, _, self.member = directory.rpartition("/")
        self.scope = scope.rpartition("/")[2]
        with contextlib.suppress(OSError):  # SIGCHLD is ignored, and it has ended
            self.start_time = proc.start_time(pid)


class _NotExecutedError(Exception):
    """Has the errno, and is no OSError: that would mean to a join that the leaf has gone."""
