"""Checks of scratch folders: which are larger than the rules of their launches want."""

import os
from collections.abc import Iterator

from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.owned.scratch_sizes import of_members
from scopekeeper.quantities import show_bytes
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.snapshot import Reader


def sizes(caller: Caller) -> Iterator[Finding]:
    """Report each living member whose scratch folder has passed its ``scratch_max``."""
    large = {path: each for path, each in of_members(only_bounded=True).items() if each.is_over}
    if not large:
        return
    for scope in Reader(caller.mount).snapshot(uid=os.getuid()).scopes:
        for member in scope.living_members:
            each = large.get(member.cgroup)
            if each is not None and each.size is not None:
                yield Finding(
                    "scratch", Status.NOTE,
                    f"{member.name} of {scope.shown_session} has {each.size.shown} in {each.path}, "
                    f"above its scratch_max of {show_bytes(each.max)}",
                    f"end it, which removes the folder: scopekeeper stop {member.leaf}",
                )  # fmt: skip
