"""``run --replace``: end the earlier member of the same session, lane, run and name first.

Never that of another gateway: see ``OwnerState.yields_to``.
"""

import os
from collections.abc import Callable

from scopekeeper.errors import ConflictError
from scopekeeper.kernel import proc
from scopekeeper.lifecycle import stop, stop_target
from scopekeeper.scope.model import Owner
from scopekeeper.scope.nearby import about
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.scope.selection import Selector, select
from scopekeeper.scope.snapshot import Reader


def replace(
    earlier: Selector, owner: Owner, warnings: list[str], step_out: Callable[[], None]
) -> None:
    """Stop earlier members that yield to the owner, and wait; raises ConflictError if they remain.

    Adds to warnings what the caller should report. step_out is as for a stop.
    """
    mount = proc.mount_point()
    named = about((), earlier)
    wanted = named.later() if named is not None else None
    snapshot = Reader(mount, unlock=True).snapshot(uid=os.getuid(), about=wanted)
    targets = [
        stop_target.target_of(selected, as_judged=True)
        for selected in select(snapshot, earlier)
        if selected.member is not None and selected.member.yields_to(owner)
    ]
    if not targets:
        return
    cause = Cause(Reason.SUPERSEDED, f"process {os.getpid()} is launched in its place")
    causes = [cause] * len(targets)
    results = stop.stop(targets, causes=causes, warnings=warnings, step_out=step_out)
    for result in results:
        if result.outcome in ("remains", "refused"):
            raise ConflictError(
                f"the earlier {earlier.name} could not be stopped: "
                f"{result.problem or 'processes remain'}",
                f"look with: scopekeeper stop -n {earlier.name}",
            )
