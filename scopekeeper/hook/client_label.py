"""Labels what a client has started with the name of the session that it has begun.

The servers of some clients have no id of their session: their scope is named after the client's
process. The hook at the start of a session has the id, but its client may start the servers at the
same moment, or a little later.
"""

import os
import time

from scopekeeper.hook.client_process import ClientProcess, Watch
from scopekeeper.kernel.proc import boottime, mount_point, namespaces
from scopekeeper.lifecycle import label
from scopekeeper.scope.model import Scope, Snapshot
from scopekeeper.scope.selection import Own, Selected, Selector, select
from scopekeeper.scope.snapshot import Reader

PATIENCE = 10.0
"""Seconds in which the client has started its first server, if it starts any."""
_SHORTEST, _LONGEST = 0.05, 2.0
"""Seconds between two looks: each takes twice as long as the one before."""


def give(process: ClientProcess, prefix: str, session_id: str, began: float) -> str:
    """Label the scopes of a client's process; return what is wrong, '' if nothing is.

    began is when the hook began: the label of a session that has begun later stays.
    """
    moment = boottime() - int((time.time() - began) * 1e6)
    watch = Watch(process)
    until = time.monotonic() + PATIENCE
    pause = _SHORTEST
    while not watch.has_ended(0):
        done = label.label(_unnamed(process, prefix), f"{prefix}:{session_id}", moment=moment)
        problems = [f"{each.scope.unit}: {each.problem}" for each in done
                    if each.problem not in ("", label.NEWER)]  # fmt: skip
        if done and not problems:
            return ""
        left = until - time.monotonic()
        if left <= 0:
            return "; ".join(problems)
        watch.has_ended(min(pause, left))
        pause = min(2 * pause, _LONGEST)
    return ""


def _unnamed(process: ClientProcess, prefix: str) -> list[Selected]:
    """Return what a process has in scopes with its name, and no label but one of this client.

    A pid is no proof: the owner on record has to be the process with that start time.
    """
    own = Own(namespaces(), processes=frozenset([(process.pid, process.start_time)]))
    snapshot = Reader(mount_point(), unlock=True).snapshot(uid=os.geteuid())
    scopes = tuple(scope for scope in snapshot.scopes if _takes(scope, prefix))
    return select(Snapshot(scopes), Selector(own=own))


def _takes(scope: Scope, prefix: str) -> bool:
    named = scope.owner.has_named(scope.session)
    return named and (not scope.label or scope.label.startswith(f"{prefix}:"))
