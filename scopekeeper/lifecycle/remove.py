"""Removes emptied cgroups: systemd removes those that it created, we remove the others."""

import contextlib
import os
import time
from collections.abc import Sequence

from scopekeeper.data import dataclass
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import stop_mark
from scopekeeper.scope import names
from scopekeeper.scope.placement import manager_of
from scopekeeper.systemd.units import epoch_of

_SECONDS = 2.0
"""How long to wait for systemd to remove a cgroup before asking it to."""
_PAUSE = 0.005


@dataclass(frozen=True, slots=True)
class Emptied:
    """The emptied cgroup of a scope or a member, whose directory is held open."""

    directory: str
    cgroup: str
    scope_directory: str
    fd: int

    def is_there(self) -> bool:
        """Return True if it still exists under its name."""
        try:
            return os.stat(self.directory).st_ino == os.fstat(self.fd).st_ino
        except OSError:
            return False


def remove(emptied: Sequence[Emptied]) -> None:
    """Remove what was proved empty, and scopes whose last member it was."""
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
    for each, life in managed:  # one after the other: polling all would keep systemd from its work
        while each.is_there():
            if time.monotonic() > deadline:
                _settle(each, life)
                break
            time.sleep(_PAUSE)
    for directory, is_managed in left.items():
        _remove_scope(directory, is_managed, deadline)


def why_it_stays(each: Emptied) -> str:
    """Return why an emptied cgroup still exists, and what removes it; '' if it does not."""
    found = cgroupfs.obstacle(each.directory) if each.is_there() else None
    return "" if found is None else f"its cgroup stays: {cgroupfs.how_to_remove(*found)}"


def _remove_scope(directory: str, is_managed: bool, deadline: float) -> None:
    """Remove a scope whose last member was stopped, or wait until systemd has.

    A scope of ours that has leaves stays: the ends of their members are not reported yet.
    """
    if not is_managed:
        for emptied in (f"{directory}/{names.HOLD}", directory):
            with contextlib.suppress(OSError):
                os.rmdir(emptied)
        return
    while os.path.isdir(directory) and not cgroupfs.is_populated(directory):
        if time.monotonic() > deadline:
            return  # reconcile cleans up later
        time.sleep(_PAUSE)


def _settle(each: Emptied, life: str) -> None:
    """Have systemd drop a scope that it keeps although it is empty; remove what it forgot.

    life is the invocation ID that the scope had when it was stopped.
    """
    from scopekeeper.errors import ManagerError
    from scopekeeper.systemd import calls

    try:
        was_loaded = calls.let_go(manager_of(each.cgroup), life, each.directory)
    except ManagerError:
        return  # its processes are gone, which is what was asked; reconcile cleans up later
    if not was_loaded:
        _remove_folder(each)


def _remove_folder(each: Emptied) -> None:
    held = f"/proc/self/fd/{each.fd}"
    removed = not each.is_there() or cgroupfs.remove(each.directory)
    if not removed and cgroupfs.is_populated(held):
        stop_mark.clear(held)  # a launch joined after the proof: do not block it
