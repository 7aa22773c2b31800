"""``run --replace``: end the earlier member of the same session, lane, run and name first.

Never that of another gateway: see ``OwnerState.yields_to``.
"""

import os

from scopekeeper import stop
from scopekeeper.errors import ConflictError
from scopekeeper.history import Cause, Reason
from scopekeeper.launch import place
from scopekeeper.launch.aside import same_hangup, step_out
from scopekeeper.launch.request import Request
from scopekeeper.model import Owner
from scopekeeper.selection import Selector, select
from scopekeeper.snapshot import Reader


def replace(request: Request, owner: place.Owner, warnings: list[str]) -> None:
    """Stop what this launch stands for, and wait; raises ConflictError where it does not go.

    What the caller should be told although it went is added to warnings.
    """
    mount = place.mount_point()
    snapshot = Reader(mount, unlock=True).snapshot(uid=os.getuid())
    # a PTY run has a run of its own, which no earlier one can have
    run = None if request.kind == "pty" and not request.explicit_run else request.run
    selector = Selector(
        session=request.session,
        lane=request.lane,
        run=run,
        name=request.name,
    )
    us = model_of(owner)
    targets = [
        stop.target_of(selected)
        for selected in select(snapshot, selector)
        if selected.member is not None and selected.member.yields_to(us)
    ]
    if not targets:
        return
    cause = Cause(Reason.SUPERSEDED, f"process {os.getpid()} is launched in its place")
    with same_hangup():
        results = stop.stop(
            targets, causes=[cause] * len(targets), warnings=warnings, step_out=step_out
        )
    for result in results:
        if result.outcome in ("remains", "refused"):
            raise ConflictError(
                f"the earlier {request.name} could not be stopped: "
                f"{result.problem or 'processes remain'}",
                f"look with: scopekeeper stop -n {request.name}",
            )


def model_of(owner: place.Owner) -> Owner:
    """Return a launch's owner as the model has owners."""
    fields = owner.fields
    is_process = "OWNER_PID" in fields
    return Owner(
        unit=owner.unit,
        epoch=fields.get("OWNER_EPOCH", ""),
        cgroup=owner.unit_path,
        pid=int(fields["OWNER_PID"]) if is_process else None,
        start_time=int(fields["OWNER_START"]) if is_process else None,
        boot_id=fields["BOOT"],
        namespaces=fields["NAMESPACES"],
    )
