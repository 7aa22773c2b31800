"""Claim paths for running scopes and members, and withdraw claims."""

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scopekeeper.errors import RefusedError
from scopekeeper.kernel import cgroupfs
from scopekeeper.owned import check, tree, users
from scopekeeper.owned.claim import Claim, Holder, Kind
from scopekeeper.owned.holders import Here
from scopekeeper.owned.store import ClaimStore
from scopekeeper.scope.model import Snapshot
from scopekeeper.scope.selection import Selector


@dataclass(frozen=True, slots=True)
class Given:
    """The claim of one path."""

    claim: Claim
    use: str
    """How a process of the holder uses it; '' if none does, and it is due at once."""


def holders(
    snapshot: Snapshot, selector: Selector, here: Here, *, whole_scope: bool
) -> list[Holder]:
    """Return the selected living members if the selector is partial, else scopes."""
    found = []
    for scope in snapshot.scopes:
        if scope.problem or not scope.lives or not selector.matches_scope(scope):
            continue
        matched = [m for m in scope.living_members if not m.problem and selector.matches_member(m)]
        if selector.is_partial and not matched:
            continue
        if whole_scope or not selector.is_partial:
            wanted = [(Kind.SCOPE, scope.cgroup)]
        else:
            wanted = [(Kind.MEMBER, member.cgroup) for member in matched]
        for kind, path in wanted:
            with contextlib.suppress(OSError):  # it has just ended
                found.append(here.living(kind, path))
    return found


def give(
    store: ClaimStore, here: Here, paths: Iterable[str], to: Sequence[Holder], *, keep: bool
) -> list[Given]:
    """Claim all paths for living holders or none; raises RefusedError, StateError.

    A holder whose processes do not use a path does not hold it, unless keep is set. A path that no
    holder uses is due at once.
    """
    given: list[Given] = []
    with store.locked():
        try:
            for path in paths:
                thing = check.examine(path)
                uses = {holder: _use(here, holder, path, keep=keep) for holder in to}
                used = {holder: use for holder, use in uses.items() if use}
                for holder, use in (used or {here.nobody(to[0]): ""}).items():
                    made = time.time_ns() // 1000
                    claim = Claim(os.urandom(8).hex(), path, thing, holder, made)
                    given.append(Given(claim, use))
                    store.write(claim)
        except Exception:
            for each in given:
                with contextlib.suppress(Exception):
                    store.remove(each.claim)
            raise
    return given


def _use(here: Here, holder: Holder, path: str, *, keep: bool) -> str:
    if keep:
        return "kept until its end"
    directory = here.mount + holder.cgroup
    return users.user_in(directory, path) if cgroupfs.is_populated(directory) else ""


def take_back(store: ClaimStore, path: str) -> int:
    """Drop every claim of a path and return their number; nothing is removed.

    Raises RefusedError if its removal has begun, StateError.
    """
    with store.locked():
        mine = [claim for claim in store.read()[0] if claim.path == path and not claim.container]
        for claim in mine:
            if _has_begun(claim):
                raise RefusedError(f"{path}: its removal has begun; it cannot be taken back")
        for claim in mine:
            store.remove(claim)
    return len(mine)


def _has_begun(claim: Claim) -> bool:
    try:
        parent = tree.open_parent(claim.path)
    except OSError:
        return False
    try:
        return tree.stat_of(parent, claim.aside) is not None
    finally:
        os.close(parent)
