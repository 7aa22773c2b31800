"""Sees emptied cgroups off: systemd removes those that it made, we the others."""

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import stop_mark
from scopekeeper.scope.placement import manager_of
from scopekeeper.systemd.units import epoch_of

_SECONDS = 2.0
"""How long systemd may take to remove a cgroup before it is asked to."""
_PAUSE = 0.005


@dataclass(frozen=True, slots=True)
class Emptied:
    """The cgroup of a scope, or of a member of it, whose directory is held open."""

    directory: str
    cgroup: str
    scope_directory: str
    fd: int

    def is_there(self) -> bool:
        """Tell whether it still stands under its name."""
        try:
            return os.stat(self.directory).st_ino == os.fstat(self.fd).st_ino
        except OSError:
            return False


def remove(emptied: Sequence[Emptied]) -> None:
    """See off what was proved empty, and scopes of which that was the last member."""
    managed = []
    left: dict[str, bool] = {}
    for each in emptied:
        if each.directory != each.scope_directory:
            cgroupfs.remove(each.directory)
            left[each.scope_directory] = bool(manager_of(each.cgroup.rpartition("/")[0]))
        elif manager_of(each.cgroup):
            managed.append((each, epoch_of(mount_point(), each.cgroup)))
        else:
            _remove_folder(each)
    deadline = time.monotonic() + _SECONDS
    for each, life in managed:  # one after the other: looking at all keeps systemd from its work
        while each.is_there():
            if time.monotonic() > deadline:
                _settle(each, life)
                break
            time.sleep(_PAUSE)
    for directory, is_managed in left.items():
        _see_off(directory, is_managed, deadline)


def _see_off(directory: str, is_managed: bool, deadline: float) -> None:
    """Have a scope gone of which the last member was stopped.

    One with leaves stays where that is up to us: how their members ended is not told yet.
    """
    if not is_managed:
        with contextlib.suppress(OSError):
            os.rmdir(directory)
        return
    while os.path.isdir(directory) and not cgroupfs.is_populated(directory):
        if time.monotonic() > deadline:
            return  # reconcile tidies later
        time.sleep(_PAUSE)


def _settle(each: Emptied, life: str) -> None:
    """Tell systemd about a scope that it keeps although it is empty; remove what it forgot.

    life is the invocation ID that it had as it was stopped.
    """
    from scopekeeper.errors import ManagerError
    from scopekeeper.systemd import calls

    try:
        known = calls.let_go(manager_of(each.cgroup), life, each.directory)
    except ManagerError:
        return  # what lived in it is gone, which is what was asked; reconcile tidies later
    if not known:
        _remove_folder(each)


def _remove_folder(each: Emptied) -> None:
    held = f"/proc/self/fd/{each.fd}"
    removed = not each.is_there() or cgroupfs.remove(each.directory)
    if not removed and cgroupfs.is_populated(held):
        stop_mark.clear(held)  # somebody came in after the proof: a new life, not to be blocked
