"""What runs inside of scopes and members, and what it listens on: for ``ps`` and ``ports``."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from scopekeeper.cli.select_options import say_missing, words_in_full
from scopekeeper.cli.show import processes, safe_json
from scopekeeper.cli.users import user_fields
from scopekeeper.kernel import listening
from scopekeeper.kernel.listening import Listening
from scopekeeper.kernel.processes import Process, look
from scopekeeper.scope.model import Member, Scope, Snapshot
from scopekeeper.scope.resolve import choose
from scopekeeper.scope.selection import Selected, Selector, select


@dataclass(frozen=True, slots=True)
class Part:
    """A member, or without one the rest of a scope, and its processes."""

    scope: Scope
    member: Member | None
    processes: tuple[Process, ...]
    elsewhere: tuple[int, ...] = ()
    """Those in another network namespace, whose sockets cannot be seen."""
    unreadable: tuple[int, ...] = ()
    """Those whose descriptors cannot be read."""
    sockets: dict[int, list[Listening]] = field(default_factory=dict)
    """By pid; those that no process of it is seen to hold, and it made, by 0."""

    @property
    def name(self) -> str:
        """The name of the member; '' without one."""
        return self.member.name if self.member is not None else ""

    @property
    def document(self) -> dict[str, Any]:
        """The JSON keys that name it."""
        scope, member = self.scope, self.member
        return {
            "unit": scope.unit,
            **user_fields(scope.uid),
            "session": safe_json(scope.session),
            "label": safe_json(scope.label) or None,
            "lane": safe_json(scope.lane),
            "run": safe_json(scope.run) or None,
            "member": None if member is None else safe_json(member.name),
            "member_id": None if member is None else member.member_id,
        }


def find(
    snapshot: Snapshot, words: tuple[str, ...], selector: Selector, *, all_users: bool
) -> tuple[list[Selected], tuple[str, ...]]:
    """Return the scopes and members that are named, and the words that name nothing.

    A name of several members names them all: looking harms none.
    """
    if not words:
        return select(snapshot, selector), ()
    found = choose(snapshot, words_in_full(words, snapshot), selector)
    say_missing(found.missing, snapshot, all_users=all_users)
    several = [each for _, members in found.several for each in members]
    return [*found.selected, *several], found.missing


def parts(
    selected: Sequence[Selected], sockets: Callable[[], Sequence[Listening]]
) -> Iterator[Part]:
    """Yield each member that is selected, with its processes and what they listen on, once."""
    asked = {(each.scope.directory, each.member and each.member.directory) for each in selected}
    scopes = {each.scope.directory: each.scope for each in selected}
    known = {each.inode: each for each in sockets()}
    by_cgroup: dict[int, list[Listening]] = {}
    for each in (each for each in known.values() if each.cgroup):
        by_cgroup.setdefault(each.cgroup, []).append(each)
    for scope in scopes.values():
        is_whole = (scope.directory, None) in asked
        for member in scope.members:
            if is_whole or (scope.directory, member.directory) in asked:
                found = look(member.pids, member.cgroup)
                made = by_cgroup.get(_inode(member.directory), [])
                yield _part(scope, member, found, known, made)
        strays = look(scope.strays, scope.cgroup) if is_whole else []
        if strays:
            yield _part(scope, None, strays, known, [])


def _inode(directory: str) -> int:
    try:
        return os.stat(directory).st_ino
    except OSError:
        return 0


def unseen(found: Sequence[Part]) -> list[str]:
    """Return a line that names what could not be looked at, if there is anything."""
    elsewhere = sum(len(each.elsewhere) for each in found)
    unreadable = sum(len(each.unreadable) for each in found)
    lines = []
    if elsewhere:
        lines.append(
            f"{processes(elsewhere)} in another network namespace: what listens there is not seen"
        )
    if unreadable:
        lines.append(f"the descriptors of {processes(unreadable)} could not be read")
    return lines


def _part(
    scope: Scope,
    member: Member | None,
    found: Sequence[Process],
    known: dict[int, Listening],
    made: Sequence[Listening],
) -> Part:
    elsewhere, unreadable, by_pid = [], [], {}
    for each in found if known else ():
        if listening.is_elsewhere(each.pid):
            elsewhere.append(each.pid)
            continue
        try:
            inodes = set(listening.held_by(each.pid))
        except OSError:
            unreadable.append(each.pid)
            continue
        by_pid[each.pid] = [known[inode] for inode in sorted(inodes) if inode in known]
    held = {socket.inode for sockets in by_pid.values() for socket in sockets}
    by_pid[0] = [each for each in made if each.inode not in held]
    return Part(scope, member, tuple(found), tuple(elsewhere), tuple(unreadable), by_pid)
