"""Stops the members and scopes that a launch replaces, before the launch."""

from scopekeeper.launch.leave_scope import same_hangup, step_out
from scopekeeper.launch.request import Request
from scopekeeper.lifecycle import lane_quota, replace
from scopekeeper.scope.model import Identity, Owner
from scopekeeper.scope.owner import LaunchOwner
from scopekeeper.scope.placement import Place
from scopekeeper.scope.selection import Selector


def replace_earlier(request: Request, owner: LaunchOwner, warnings: list[str]) -> None:
    """Apply ``--replace``; see ``lifecycle.replace``."""
    # every PTY run has a new id, which no earlier run has
    run = None if request.kind == "pty" and not request.explicit_run else request.run
    earlier = Selector(session=request.session, lane=request.lane, run=run, name=request.name)
    with same_hangup():
        replace.replace(earlier, _owner_of(owner), warnings, step_out)


def make_room(request: Request, owner: LaunchOwner, where: Place, warnings: list[str]) -> None:
    """Apply the lane's rules about other scopes; see ``lifecycle.lane_quota``."""
    identity = Identity(request.session, request.lane, request.run)
    launch = lane_quota.NewScope(identity, request.session_id, _owner_of(owner), request.room)
    with same_hangup():
        lane_quota.make_room(launch, where, warnings, step_out)


def _owner_of(owner: LaunchOwner) -> Owner:
    """Return a launch's owner as an Owner of the model."""
    fields = owner.fields
    is_process = "OWNER_PID" in fields
    return Owner(
        unit=fields.get("OWNER_UNIT", ""),
        epoch=fields.get("OWNER_EPOCH", ""),
        cgroup=fields.get("OWNER_CGROUP", ""),
        pid=int(fields["OWNER_PID"]) if is_process else None,
        start_time=int(fields["OWNER_START"]) if "OWNER_START" in fields else None,
        boot_id=fields["BOOT"],
        namespaces=fields["NAMESPACES"],
        outer_unit=fields.get("OUTER_UNIT", ""),
        outer_cgroup=fields.get("OUTER_CGROUP", ""),
    )
