"""What has left a scope or member that was stopped, and lives on.

Found by the marker in its environment; or, if that cannot be read (another user's process) or is
gone, as a child that a process of the target had before the first signal.
"""

import contextlib
import os
import time
from collections.abc import Collection, Mapping, Sequence

from scopekeeper.kernel import cgroupfs, mounts, proc
from scopekeeper.kernel.children import children_of
from scopekeeper.lifecycle import escaped
from scopekeeper.lifecycle.escaped import Escaped
from scopekeeper.lifecycle.stop_target import Result, Target
from scopekeeper.scope import names
from scopekeeper.scope.snapshot import Reader

_SETTLE_SECONDS, _PAUSE = 0.5, 0.02
"""Many of them end by themselves at once, since their parent has ended."""
_MOST = 500
"""Processes of a target whose children are looked at; a fork bomb has no time for that."""

Children = Mapping[int, str]
"""Pids with their start times."""


def children_outside(pids: Collection[int], cgroup: str) -> Children:
    """Return the children of these processes that are outside of every scope of ours.

    cgroup is the path that all of pids are in.
    """
    found = {}
    inside = set(pids)
    for pid in pids if len(pids) <= _MOST else ():
        for child in children_of(pid):
            path = cgroupfs.path_of(child) if child not in inside else ""
            if path and not mounts.is_within(path, cgroup) and not names.unit_of(path):
                with contextlib.suppress(OSError):
                    found[child] = proc.start_time(child)
    return found


def left(targets: Mapping[Target, Children], uid: int | None) -> dict[Target, tuple[Escaped, ...]]:
    """Return, for each target, what has left it and still lives after a moment.

    targets has the children seen before. uid is whose processes are looked at by their environment;
    None: everybody's.
    """
    found = _look(targets, uid)
    until = time.monotonic() + _SETTLE_SECONDS
    while any(found.values()):
        found = {target: tuple(filter(escaped.lives, each)) for target, each in found.items()}
        if time.monotonic() > until:
            break
        time.sleep(_PAUSE)
    return found


def end(results: Sequence[Result], uid: int | None) -> None:
    """End what had left these targets, where that is proved, and note it in the results.

    Not what belongs to a member that lives: another scope of the same name may have come.
    """
    if not any(result.escaped for result in results):
        return
    living = escaped.living_members(Reader(proc.mount_point()).snapshot(uid=uid))
    for result in results:
        doomed = [each for each in result.escaped if escaped.may_be_ended(each)]
        outcomes = escaped.end(doomed, living, uid)
        ended = [(each, outcomes[each.pid]) for each in doomed]
        result.ended_escaped = tuple(pair for pair in ended if pair[1] != "changed")
        gone = {each.pid for each, _ in result.ended_escaped}
        result.escaped = tuple(each for each in result.escaped if each.pid not in gone)


def _look(targets: Mapping[Target, Children], uid: int | None) -> dict[Target, tuple[Escaped, ...]]:
    own = os.getpid()
    marked = [each for each in escaped.find_all(uid) if each.pid != own]
    found = {}
    for target, children in targets.items():
        its = {
            each.pid: each
            for each in marked
            if each.scope == target.unit and target.leaf in ("", each.leaf)
        }
        for pid, start_time in children.items():
            if pid not in its and pid != own:
                child = escaped.child_of(target.unit, target.leaf, pid, start_time)
                if child is not None:
                    its[pid] = child
        found[target] = tuple(its[pid] for pid in sorted(its))
    return found
