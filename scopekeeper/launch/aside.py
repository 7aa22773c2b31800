"""Moves this process out of the scope that it runs in, into one of its own.

For a stop that was called from inside of what it stops: it has to outlive that to prove it.
"""

import contextlib
import os
import signal
from collections.abc import Iterator

from scopekeeper.launch import place, scope
from scopekeeper.launch.member import Member, Warnings
from scopekeeper.launch.request import Request


def step_aside() -> None:
    """Become the only member of a scope ``scopekeeper-scopekeeper-stop-<id>``.

    Raises ScopekeeperError or OSError where that cannot be; the process is then where it was.
    """
    options = {
        "session": "scopekeeper",
        "lane": "stop",
        "run": os.urandom(4).hex(),
        "kind": "exec",
        "lifetime": "detached",
    }
    caller = place.Caller()
    manager = place.place_of(caller) if caller.scope_directory else place.find(caller)
    member = Member(Request(options, {}, "scopekeeper"), place.find_owner(caller))
    scope.contain(member, caller, manager, Warnings())


def step_out() -> None:
    """Step aside, and ignore the hangup of a terminal that ends with what is stopped.

    For the main thread of a command.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    step_aside()


@contextlib.contextmanager
def same_hangup() -> Iterator[None]:
    """Restore afterwards what this process does at a hangup: what it executes inherits that."""
    before = signal.getsignal(signal.SIGHUP)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
