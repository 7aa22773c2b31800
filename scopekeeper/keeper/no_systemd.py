"""A keeper without systemd: its cgroup, its log file, and how it reports that it listens.

It must not stay in the scope of the process that started it, or it would end with that scope.
"""

import contextlib
import logging
import os
import stat
import sys
from typing import Self

from scopekeeper.errors import ScopekeeperError
from scopekeeper.keeper import command_cgroup
from scopekeeper.kernel import proc
from scopekeeper.scope import choose_placement, placement_options
from scopekeeper.scope.placement import Caller

_OF_MEMBER = frozenset(
    f"SCOPEKEEPER_{name}"
    for name in ("SESSION", "SESSION_ID", "LANE", "RUN", "KIND", "SCOPE", "MEMBER")
)
_FORMAT = "%(asctime)s  %(message)s"
_LOG_MOST, _LOG_KEPT = 1 << 20, 1 << 18
"""Most bytes of the log file, and how many stay when it is shortened."""

_log = logging.getLogger("scopekeeper")


def leave_member() -> None:
    """Execute this program again without the variables of the member that started it, if any.

    With them, the keeper is a process that left that member, and may be ended as one.
    """
    if "SCOPEKEEPER_MEMBER" in os.environ:
        kept = {name: value for name, value in os.environ.items() if name not in _OF_MEMBER}
        os.execve(sys.executable, sys.orig_argv, kept)  # noqa: S606  that is what is wanted


class StandsAlone:
    """Does for a keeper what systemd would; a context manager around everything that it does."""

    def __init__(self) -> None:
        """Leave the cgroup in which this process was started."""
        if stat.S_ISREG(os.fstat(2).st_mode):
            logging.basicConfig(
                format=_FORMAT, datefmt="%Y-%m-%d %H:%M:%S", level=logging.INFO,
                handlers=[_ShortFile()],
            )  # fmt: skip
        self._before, self._folder = "", ""
        try:
            self._move()
        except (OSError, LookupError, ScopekeeperError) as error:
            _log.debug("the keeper stays in the cgroup where it was started: %s", error)
        if Caller().scope_directory:
            _log.warning("the keeper runs in %s: a stop of that scope ends it", proc.cgroup_of())

    def _move(self) -> None:
        """Move to a cgroup beside the scopes."""
        caller = Caller()
        where = choose_placement.find(caller, placement_options.wanted())
        if where.manager:
            return
        command_cgroup.sweep(where.base)  # of keepers that were killed
        folder = f"{where.base}/{placement_options.KEEPER_FOLDER}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
        proc.write(f"{folder}/cgroup.procs", "0")
        self._before, self._folder = where.base, folder

    def listens(self) -> None:
        """Close standard output: the process that started this keeper reads until end of file."""
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the cgroup, if its parent may hold processes."""
        if self._folder:
            command_cgroup.sweep(self._before)
            with contextlib.suppress(OSError):
                proc.write(f"{self._before}/cgroup.procs", "0")
                os.rmdir(self._folder)


class _ShortFile(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error, a file, and keeps it short by dropping the oldest messages."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        with contextlib.suppress(OSError):
            if os.fstat(2).st_size > _LOG_MOST:
                _shorten()
        super().emit(record)


def _shorten() -> None:
    with open("/proc/self/fd/2", "rb") as file:
        file.seek(-_LOG_KEPT, os.SEEK_END)
        file.readline()
        kept = file.read()
    os.ftruncate(2, 0)  # it is open for appending
    os.write(2, kept)
