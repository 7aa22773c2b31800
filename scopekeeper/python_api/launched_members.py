"""What the members of a cohort have launched through scopekeeper, as members of their own.

``scopekeeper run`` moves to a leaf of its own, also where it is itself a member's command, as
``wrap`` writes it. Its record names the members that it was launched from. A child of this process
needs no such record: it is this process's wherever it has gone.

Nothing is found by an environment, and nothing is stopped but a whole leaf with a record of ours.
"""

import contextlib
import os
import select
import time
from collections.abc import Iterable, Iterator, Sequence

from scopekeeper.kernel import cgroupfs, mounts, proc
from scopekeeper.lifecycle.stop_launched import SETTLE_SECONDS, is_one_arriving
from scopekeeper.python_api.process import Process
from scopekeeper.scope import names
from scopekeeper.scope.launched import ends_with_launcher, kept, key_of, launchers, trusted
from scopekeeper.scope.model import Member, Scope, Snapshot
from scopekeeper.scope.nearby import About
from scopekeeper.scope.selection import Selected
from scopekeeper.scope.snapshot import Reader

_PAUSE = 0.01


def find(launchers: Iterable[str], children: Sequence[Process], mount: str) -> list[Selected]:
    """Return living members that were launched from any of these, or lead to one of the children.

    launchers are keys of members that are gone. Waits for launches that are on their way. A member
    whose lifetime is to outlive its starter is only found as a child.
    """
    known = set(launchers)
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        with contextlib.ExitStack() as closing:
            held = [each for each in map(_Held, children) if each.opens(closing)]
            units = (names.unit_of(cgroupfs.path_of(each.pid)) for each in children)
            named = About(frozenset(filter(None, units)))
            snapshot = Reader(mount, unlock=True).snapshot(uid=os.getuid(), about=named)
            pairs = [*_launched(snapshot, known), *(each.leads_in(snapshot) for each in held)]
        found = {each[1].directory: Selected(*each) for each in pairs if each is not None}
        if found or time.monotonic() > until or not is_one_arriving(snapshot):
            return list(found.values())
        time.sleep(_PAUSE)


def launchers_of_living(mount: str) -> frozenset[str]:
    """Return the keys of all members from which a member was launched that ``find`` may return."""
    launched = About(frozenset())
    snapshot = Reader(mount).snapshot(uid=os.getuid(), about=launched)
    there = kept(snapshot)
    return frozenset(
        each.key for _, member in _ordinary(snapshot) for each in launchers(member, there)
    )


def _launched(snapshot: Snapshot, known: set[str]) -> Iterator[tuple[Scope, Member]]:
    there = kept(snapshot) - known
    for scope, member in _ordinary(snapshot):
        if key_of(member.directory) in known:
            continue
        if any(each.key in known for each in launchers(member, there)):
            yield scope, member


def _ordinary(snapshot: Snapshot) -> Iterator[tuple[Scope, Member]]:
    """Return the members that end with their starter, and whose records can be trusted."""
    return (pair for pair in trusted(snapshot) if ends_with_launcher(pair[1]))


class _Held:
    """A child that lives on, held by a pidfd while it is looked for."""

    def __init__(self, child: Process) -> None:
        self._child = child
        self._pidfd = -1

    def opens(self, closing: contextlib.ExitStack) -> bool:
        """Open the pidfd; False if the child has ended or is not proved to be this process's."""
        child = self._child
        try:
            self._pidfd = os.pidfd_open(child.pid)
            closing.callback(os.close, self._pidfd)
            stat = proc.stat_of(child.pid)
        except OSError:
            return False
        return (
            child.poll() is None
            and stat is not None
            and stat.parent == os.getpid()
            and str(stat.start_time) == child.start_time
        )

    def leads_in(self, snapshot: Snapshot) -> tuple[Scope, Member] | None:
        """Return the member that the child is the command of."""
        for scope in snapshot.scopes:
            for member in scope.members:
                if (
                    member.pid == self._child.pid
                    and str(member.start_time) == self._child.start_time
                    and member.pid in member.pids
                    and not (member.problem or member.claims or scope.elsewhere)
                ):
                    return (scope, member) if self._is_in(member) else None
        return None

    def _is_in(self, member: Member) -> bool:
        """Return whether the child is in the leaf now, and has run since the pidfd was opened."""
        path = cgroupfs.path_of(self._child.pid)
        return bool(path) and mounts.is_within(path, member.cgroup) and not self._has_ended()

    def _has_ended(self) -> bool:
        waiting = select.poll()
        waiting.register(self._pidfd, select.POLLIN)
        return bool(waiting.poll(0))


def lives_elsewhere(child: Process) -> str:
    """Return the cgroup of a child that lives outside of its leaf; '' if it does not."""
    if not child.directory or child.poll() is not None:
        return ""
    path = cgroupfs.path_of(child.pid)
    return "" if key_of(child.directory) == _leaf_in(path) else path


def _leaf_in(path: str) -> str:
    """Return the key of the innermost leaf of ours in a cgroup path, '' if there is none."""
    parts = path.split("/")
    for at in range(len(parts) - 1, 0, -1):
        if names.parse_leaf(parts[at]) and names.parse_unit(parts[at - 1]):
            return f"{parts[at - 1]}/{parts[at]}"
    return ""
