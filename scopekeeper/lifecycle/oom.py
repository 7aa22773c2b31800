"""Finds out whether a member whose end nobody watched was killed because it was out of memory.

The kernel counts kills in a cgroup while that exists, systemd-oomd counts its own in an attribute
there, and systemd keeps the result of a scope while its unit is loaded. When all of these are gone,
nothing can be read any more.
"""

import contextlib
import os
from collections.abc import Collection

from scopekeeper.data import dataclass, field
from scopekeeper.errors import ManagerError
from scopekeeper.history import recording
from scopekeeper.history.end import End
from scopekeeper.kernel import cgroupfs, oomd
from scopekeeper.scope import names, record_parser
from scopekeeper.scope.records import ATTRIBUTE, RecordError
from scopekeeper.systemd import units

_EVENTS = "memory.events.local"
_RESULT = "oom-kill"


def of_leaf(directory: str) -> int:
    """Return how many processes of a leaf were killed; 0 also if its memory is not counted."""
    return cgroupfs.keyed(cgroupfs.read(directory, _EVENTS), "oom_kill") or 0


def of_oomd(scope: str, leaf: str) -> str:
    """Return the evidence that systemd-oomd killed a member, or its whole scope; '' if not."""
    if oomd.kills_of(f"{scope}/{leaf}"):
        return oomd.EVIDENCE
    return f"{oomd.EVIDENCE} of its scope" if oomd.kills_of(scope) else ""


def counted(killed: int) -> str:
    """Return the evidence of kills in a leaf."""
    return f"{_EVENTS}: oom_kill {killed}"


def _of_whole_scope(directory: str) -> str:
    """Return the evidence that the kernel killed all of a scope at once; '' if it did not.

    It does where memory.oom.group is set, as systemd does for OOMPolicy=kill (Linux 5.17).
    """
    killed = cgroupfs.keyed(cgroupfs.read(directory, _EVENTS), "oom_group_kill") or 0
    if not killed or cgroupfs.is_populated(directory):
        return ""
    return f"{_EVENTS} of its scope: oom_group_kill {killed}"


def of_scope(directory: str, end: End) -> str:
    """Return the evidence that a member was killed with its scope, which is still there."""
    return _of_whole_scope(directory) or _of_only_member(directory, end)


def _of_only_member(directory: str, end: End) -> str:
    """Return the evidence of kills in a scope that never had another member; '' if there is none.

    A member without limits of its own is counted with its scope. Of several members, even of one
    that is gone, the number proves nothing.
    """
    killed = of_leaf(directory)
    if not killed or cgroupfs.is_populated(directory):
        return ""
    try:
        leaves = list(filter(names.parse_leaf, cgroupfs.children(directory)))
        raw = cgroupfs.attribute(directory, ATTRIBUTE)
        made_for_it = record_parser.scope(raw, end.unit).created == end.started
    except (OSError, RecordError):
        return ""
    is_alone = leaves == [end.leaf] and made_for_it and recording.is_only_one(end)
    return f"{_EVENTS} of its scope: oom_kill {killed}" if is_alone else ""


@dataclass(slots=True)
class Results:
    """The scopes that systemd ended as out of memory, as far as their units are still loaded.

    Each manager is asked once, for all scopes, and only if a scope is gone.
    """

    _of: dict[str, Collection[str]] = field(default_factory=dict)

    def evidence(self, path: str) -> str:
        """Return the evidence that the scope at a cgroup path was ended so; '' if there is none."""
        uid = units.manager_uid(path)
        if uid not in ("", str(os.getuid())):
            return ""
        kind = "user" if uid else "system"
        if kind not in self._of:
            self._of[kind] = _ended_by_oom(kind)
        return f"Result={_RESULT} of its scope" if units.unit_at(path) in self._of[kind] else ""


def _ended_by_oom(kind: str) -> Collection[str]:
    from scopekeeper.systemd import calls

    with contextlib.suppress(ManagerError):
        found = calls.listed_units(kind, "scopekeeper-*.scope")
        failed = [unit for unit, state in found.items() if state == "failed"]
        return {unit for unit in failed if calls.scope_result(kind, unit) == _RESULT}
    return ()
