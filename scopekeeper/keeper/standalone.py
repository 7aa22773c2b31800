"""Takes a keeper out of where it was started, where no systemd does that."""

import contextlib
import os

from scopekeeper.errors import ScopekeeperError
from scopekeeper.launch import place

_FOLDER = "scopekeeper-keeper"


def stand_alone() -> None:
    """Leave the scope of whoever started this process: its end must not be the keeper's.

    Into a folder beside the scopes, where that can be done; else it stays where it is.
    """
    with contextlib.suppress(OSError, LookupError, ScopekeeperError):
        caller = place.Caller()
        where = place.find(caller)
        if where.manager:
            return
        folder = f"{where.base}/{_FOLDER}"
        if not place.exists(folder):
            os.mkdir(folder, 0o755)
        place.write(f"{folder}/cgroup.procs", "0")
