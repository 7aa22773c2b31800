"""A keeper of which no systemd takes care: where it lives, where its messages go, when it listens.

Its end is nobody's business but its own: it must not be in the scope of whoever started it.
"""

import contextlib
import logging
import os
import stat
from typing import Self

from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel import proc
from scopekeeper.scope import choose_placement, placement_options
from scopekeeper.scope.placement import Caller

FOLDER = "scopekeeper-keeper"
_FORMAT = "%(asctime)s  %(message)s"
_LOG_MOST, _LOG_KEPT = 1 << 20, 1 << 18
"""Bytes of a file of messages, and how many of them stay when it is shortened."""

_log = logging.getLogger("scopekeeper")


class StandsAlone:
    """What a keeper does in place of systemd; use it with ``with``, around all that it does."""

    def __init__(self) -> None:
        """Leave the cgroup that this process was started in."""
        if stat.S_ISREG(os.fstat(2).st_mode):
            logging.basicConfig(
                format=_FORMAT, datefmt="%Y-%m-%d %H:%M:%S", level=logging.INFO,
                handlers=[_ShortFile()],
            )  # fmt: skip
        self._before, self._folder = "", ""
        try:
            self._move()
        except (OSError, LookupError, ScopekeeperError) as error:
            _log.debug("it stays in the cgroup that it was started in: %s", error)
        if Caller().scope_directory:
            _log.warning("it is in %s: a stop of that scope ends it too", proc.cgroup_of())

    def _move(self) -> None:
        """Move to a folder beside the scopes."""
        caller = Caller()
        where = choose_placement.find(caller, placement_options.wanted())
        if where.manager:
            return
        folder = f"{where.base}/{FOLDER}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
        proc.write(f"{folder}/cgroup.procs", "0")
        self._before, self._folder = where.base, folder

    def listens(self) -> None:
        """Close standard output: who has started this keeper reads it to its end."""
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no folder behind, where the one above may have processes of its own."""
        if self._folder:
            with contextlib.suppress(OSError):
                proc.write(f"{self._before}/cgroup.procs", "0")
                os.rmdir(self._folder)


class _ShortFile(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error, a file, and keeps that short: the oldest messages go."""

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
