"""Stops whose own process was killed: why they were begun, and how they are brought to an end."""

import contextlib
from typing import TYPE_CHECKING

from scopekeeper import cgroup, history, mark, names, records, stop, untrusted
from scopekeeper.history import Cause
from scopekeeper.launch.place import mount_point
from scopekeeper.stop import record_of

if TYPE_CHECKING:
    from scopekeeper.untrusted import MemberRecord, ScopeRecord


def finish(directory: str, warnings: list[str]) -> None:
    """Bring a stop of a scope to its end whose own process was killed."""
    cgroup.gain_access(directory)
    record = record_of(directory)
    if record is None:
        return
    path = directory[len(mount_point()) :]
    grace = stop.grace_of(record.grace)
    cause = cause_begun(directory) or Cause(history.Reason.UNKNOWN)
    stop.stop([stop.Target(directory, path, grace)], causes=[cause], warnings=warnings)


def cause_begun(directory: str) -> Cause | None:
    """Return why a scope, or the member in a leaf, is being stopped; None where it is not.

    Where nothing says so but its record, the reason is unknown.
    """
    record: ScopeRecord | MemberRecord | None = None
    leaf = directory.rpartition("/")[2]
    if names.parse_leaf(leaf) is None:
        record = record_of(directory)
    else:
        with contextlib.suppress(OSError, records.RecordError):
            record = untrusted.member(cgroup.attribute(directory, records.ATTRIBUTE), leaf)
    if record is None or record.mark is None:
        return None
    kept = mark.cause(directory, record.mark)
    return kept or Cause(history.Reason.UNKNOWN, mark.claim(record.mark))
