"""A member as a ``subprocess.Popen``: the same object, born in a leaf of its session's scope."""

import errno
import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

from scopekeeper.errors import ScopekeeperError
from scopekeeper.launch import run
from scopekeeper.launch.failure import is_unavailable, translated
from scopekeeper.python_api import child, launcher, popen_arguments, posix_spawn
from scopekeeper.python_api.child import Child
from scopekeeper.python_api.popen_arguments import Command

log = logging.getLogger("scopekeeper")
"""Told what is worth knowing although a launch goes on."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What launches of one session share."""

    options: dict[str, str]
    """As ``run`` has them, with ``_`` for ``-``."""
    making: threading.Lock = field(default_factory=threading.Lock)
    """Held while a scope is made, so that one thread makes it and the others join."""


class Process(subprocess.Popen[Any]):
    """A started member; what ``subprocess.Popen`` has, and where it lives."""

    scope = ""
    """The unit of its scope; '' where it was started uncontained."""
    member = ""
    """The name of its leaf there, which is the name and an id."""
    directory = ""
    """The leaf's directory in the cgroup2 hierarchy."""
    _hold = False

    def __init__(self, args: Any, how: Launch, **popen: Any) -> None:  # noqa: ANN401
        """Start it, and return when the command runs.

        Raises what ``Popen`` raises where the command cannot be executed, else ScopekeeperError.
        """
        popen_arguments.refuse(popen)
        self._how = how
        super().__init__(args, **popen)

    def _execute_child(self, *given: Any) -> None:  # noqa: ANN401
        """Start it in a leaf: the one step of ``Popen`` that is another one here.

        The arguments are the same from Python 3.11 to 3.14; they are named as Popen names them.
        """
        popen: Any = super()
        code = subprocess.Popen._execute_child.__code__  # type: ignore[attr-defined]  # noqa: SLF001
        asked = dict(zip(code.co_varnames[1 : code.co_argcount], given, strict=True))
        wanted = popen_arguments.read(asked)
        self._hold = True
        try:
            try:
                self._contain(wanted, asked)
            except launcher.UncontainedError as error:
                if self._how.options.get("if_unavailable") != "warn":
                    raise error.reason from None
                log.warning("running uncontained: %s", error.reason)
                popen._execute_child(*given)  # noqa: SLF001
        finally:
            self._hold = False
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[name] for name in ends))

    def _close_pipe_fds(self, *ends: int) -> None:
        """Close the child's ends, when no other way to start it is left to be tried."""
        if not self._hold:
            popen: Any = super()
            popen._close_pipe_fds(*ends)  # noqa: SLF001

    def _contain(self, wanted: Command, asked: dict[str, Any]) -> None:
        if not wanted.is_plain or "replace" in self._how.options or not posix_spawn.is_there():
            self._launch(wanted, asked)
            return
        try:
            if self._join(wanted):
                return
            with self._how.making:  # whoever had it before has made the scope
                if not self._join(wanted):
                    self._launch(wanted, asked)
        except posix_spawn.CannotPlaceError:
            self._launch(wanted, asked)

    def _join(self, wanted: Command) -> bool:
        """Start it in a scope that is there; False where there is none to be joined just now."""
        options = self._how.options | {"parent": str(os.getpid())}
        environment = dict(os.environb)
        try:
            born = child.join(
                options, wanted.name, environment, lambda *at: self._bear(wanted, *at)
            )
        except _NotExecutedError as error:
            raise wanted.failed(error.number) from None
        except (ScopekeeperError, ValueError, OSError, LookupError) as error:
            if is_unavailable(error):
                return False  # the launcher finds the same, or a way; it says which
            raise translated(error) from None
        if born is None:
            return False
        for text in born.warnings:
            log.warning(text)
        self.pid = born.pid
        self._child_created = True
        self._is_in(born.directory)
        return True

    def _bear(self, wanted: Command, leaf: int, born: Child) -> int:
        environment = dict(wanted.environment)
        run.tell(environment, born)
        run.drop_bus(environment, self._how.options)
        sys.audit("subprocess.Popen", wanted.shown, wanted.argv, wanted.cwd, environment)
        try:
            pid, failed = posix_spawn.spawn(leaf, wanted.programs, wanted.plan, environment)
        except posix_spawn.CannotPlaceError as error:
            if error.number == errno.ENODEV:  # the leaf has gone: there can be another
                raise OSError(error.number, str(error)) from None
            raise
        except BlockingIOError as error:  # a limit of tasks
            raise _NotExecutedError(error.errno or errno.EAGAIN) from None
        if failed:
            raise _NotExecutedError(failed)
        return pid

    def _launch(self, wanted: Command, asked: dict[str, Any]) -> None:
        popen: Any = super()
        there = launcher.start(self, popen._execute_child, wanted, asked, self._how.options)  # noqa: SLF001
        for text in there.warnings:
            log.warning(text)
        if there.directory:
            self._is_in(there.directory)

    def _is_in(self, directory: str) -> None:
        self.directory = directory
        scope, _, self.member = directory.rpartition("/")
        self.scope = scope.rpartition("/")[2]


class _NotExecutedError(Exception):
    """No OSError: that would mean to a join that the leaf has gone."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number
