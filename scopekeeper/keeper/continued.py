"""Finds the member as which the process of an empty one goes on: its command was ``run`` itself."""

import contextlib

from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.scope import names, record_parser
from scopekeeper.scope.launched import key_of
from scopekeeper.scope.model import Member, Scope
from scopekeeper.scope.record_parser import MemberRecord
from scopekeeper.scope.records import ATTRIBUTE, RecordError
from scopekeeper.scope.snapshot import Reader


def is_it(key: str, pid: int | None, start_time: int | None, member: Member) -> bool:
    """Return whether the process of the member with this key goes on as another member."""
    return key in member.earlier and (pid, start_time) == (member.pid, member.start_time)


def find(
    key: str, pid: int | None, start_time: int | None, mount: str
) -> tuple[Scope, Member] | None:
    """Return the member as which a process goes on, and its scope; None if there is none yet."""
    leaf, record = _now_in(pid, start_time, mount)
    if record is None or not _was_before(key, record):
        return None
    scope = Reader(mount).scope(leaf.rpartition("/")[0])
    for member in scope.members if scope is not None else ():
        if scope is not None and is_it(key, pid, start_time, member):
            return scope, member
    return None


def has_gone_on(member: Member) -> bool:
    """Return whether the process of a member without processes goes on as another member."""
    mount = member.directory.removesuffix(member.cgroup)
    record = _now_in(member.pid, member.start_time, mount)[1]
    return record is not None and _was_before(key_of(member.directory), record)


def _now_in(pid: int | None, start_time: int | None, mount: str) -> tuple[str, MemberRecord | None]:
    """Return the leaf that a process lives in as its command, and the record of that."""
    with contextlib.suppress(OSError, RecordError):
        if pid and start_time is not None and proc.runs(pid, start_time):
            parts = cgroupfs.path_of(pid).split("/")
            while len(parts) > 1 and names.parse_leaf(parts[-1]) is None:
                parts.pop()
            leaf = mount + "/".join(parts)
            record = record_parser.member(cgroupfs.attribute(leaf, ATTRIBUTE), parts[-1])
            is_sure = record.joining == ""
            if is_sure and (record.pid, record.start_time) == (pid, start_time):
                return leaf, record
    return "", None


def _was_before(key: str, record: MemberRecord) -> bool:
    return bool(record.continues) and key in record.launched_in[-record.continues :]
