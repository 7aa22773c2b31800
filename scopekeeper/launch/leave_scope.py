"""Moves this process out of its scope into a new one.

For a stop that is called from inside the scope that it stops: it has to outlive the scope to prove
the end.
"""

import contextlib
import os
import signal
from collections.abc import Iterator

from scopekeeper.errors import ConflictError
from scopekeeper.launch import create_cgroup, create_unit
from scopekeeper.launch.member import NewMember
from scopekeeper.launch.request import Request
from scopekeeper.scope import choose_placement
from scopekeeper.scope.owner import find_owner
from scopekeeper.scope.placement import Caller, place_of


def step_aside() -> None:
    """Become the only member of a scope ``scopekeeper-scopekeeper-stop-<id>``.

    Raises ScopekeeperError or OSError; the process then stays where it is.
    """
    options = {
        "session": "scopekeeper",
        "lane": "stop",
        "run": os.urandom(4).hex(),
        "kind": "exec",
        "lifetime": "detached",
    }
    caller = Caller()
    place = place_of(caller) if caller.scope_directory else choose_placement.find(caller)
    member = NewMember(Request(options, {}, "scopekeeper"), find_owner(caller))
    create = create_unit.create if place.manager else create_cgroup.create
    if not create(f"{place.base}/{member.unit}", member, place, []):
        raise ConflictError(f"{member.unit} could not be made", "stop from outside of the scope")


def step_out() -> None:
    """Step aside, and ignore the hangup of a terminal that ends with the scope.

    For the main thread of a command.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    step_aside()


@contextlib.contextmanager
def same_hangup() -> Iterator[None]:
    """Restore the disposition of SIGHUP afterwards: the command inherits it."""
    before = signal.getsignal(signal.SIGHUP)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
