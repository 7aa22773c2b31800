"""Finishes stops whose own process was killed, for the cause for which they were begun."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import stop, stop_mark, stop_target
from scopekeeper.lifecycle.stop_mark import record_of
from scopekeeper.scope import names, reason, record_parser, records
from scopekeeper.scope.reason import Cause

if TYPE_CHECKING:
    from scopekeeper.scope.record_parser import MemberRecord, ScopeRecord


def finish(directory: str, warnings: list[str], step_out: Callable[[], None]) -> None:
    """Finish a stop of a scope whose process was killed; step_out is as for a stop."""
    cgroupfs.gain_access(directory)
    record = record_of(directory)
    if record is None:
        return
    path = directory[len(mount_point()) :]
    grace = stop_target.grace_of(record.grace)
    cause = cause_begun(directory) or Cause(reason.Reason.UNKNOWN)
    stop.stop(
        [stop_target.Target(directory, path, grace)],
        causes=[cause],
        warnings=warnings,
        step_out=step_out,
    )


def cause_begun(directory: str) -> Cause | None:
    """Return why a scope, or the member in a leaf, is being stopped; None if it is not.

    If only its record states a cause, the reason is unknown.
    """
    record: ScopeRecord | MemberRecord | None = None
    leaf = directory.rpartition("/")[2]
    if names.parse_leaf(leaf) is None:
        record = record_of(directory)
    else:
        with contextlib.suppress(OSError, records.RecordError):
            record = record_parser.member(cgroupfs.attribute(directory, records.ATTRIBUTE), leaf)
    if record is None or record.mark is None:
        return None
    kept = stop_mark.cause(directory, record.mark)
    return kept or Cause(reason.Reason.UNKNOWN, stop_mark.claim(record.mark))
