"""The scratch folders that living members have, with their sizes."""

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass

from scopekeeper.kernel import proc
from scopekeeper.owned import tree
from scopekeeper.owned.claim import Claim, Kind
from scopekeeper.owned.size import Size, measure
from scopekeeper.owned.store import ClaimStore
from scopekeeper.quantities import show_bytes

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST = 20_000
"""Entries of one folder that a list looks at: some 0.1 s."""
_MOST_IN_ALL = 200_000
MOST_AT_ITS_END = 1_000_000
"""Entries that are looked at before they are removed, which takes longer."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """The scratch folder of a living member."""

    path: str
    max: int
    """The size above which it is reported, 0 for none."""
    size: Size | None
    """None if that cannot be read, or another folder is there now."""

    @property
    def is_over(self) -> bool:
        """Whether it has passed its maximum."""
        return bool(self.max and self.size is not None and self.size.bytes > self.max)

    @property
    def words(self) -> str:
        """Its size for people, as ``1.2G scratch``; ``?`` if it is unknown."""
        over = f" (scratch_max {show_bytes(self.max)})" if self.is_over else ""
        return f"{'?' if self.size is None else self.size.shown} scratch{over}"


def of_members(
    wanted: Collection[str] | None = None, *, only_bounded: bool = False
) -> dict[str, Scratch]:
    """Return this user's scratch folders by the cgroup paths of their members.

    wanted has these paths, None for all; only_bounded: only folders with a maximum. Raises
    StateError, OSError.
    """
    store = ClaimStore.find()
    if store is None:
        return {}
    boot, cgroups = proc.boot_id(), proc.namespaces().partition("/")[2]
    found: dict[str, Scratch] = {}
    left = _MOST_IN_ALL
    for claim in store.read()[0]:
        holder = claim.holder
        is_here = (holder.boot_id, holder.namespaces.partition("/")[2]) == (boot, cgroups)
        is_wanted = wanted is None or holder.cgroup in wanted
        if not (claim.is_scratch and holder.kind is Kind.MEMBER and is_here and is_wanted):
            continue
        if only_bounded and not claim.scratch_max:
            continue
        size = size_of(claim, min(_MOST, left))
        left -= size.entries if size is not None else 0
        found[holder.cgroup] = Scratch(claim.path, claim.scratch_max or 0, size)
    return found


def size_of(claim: Claim, most: int, name: str = "") -> Size | None:
    """Return the size of the folder of a claim, or of that name beside it; None if unknown."""
    with contextlib.suppress(OSError):
        parent = tree.open_parent(claim.path)
        try:
            fd = os.open(name or tree.base_name(claim.path), _OPEN, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            if os.fstat(fd).st_ino == claim.thing.inode:
                return measure(fd, most)
        finally:
            os.close(fd)
    return None
