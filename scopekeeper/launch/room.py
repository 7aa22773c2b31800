"""Makes room in a lane for a new scope, where its rules ask for that.

Only what yields to the launch's owner is ended: see ``OwnerState.yields_to``.
"""

import contextlib
import dataclasses
import fcntl
import os
import time
from pathlib import Path

from scopekeeper import names, stop
from scopekeeper.errors import ConflictError
from scopekeeper.history import Cause, Reason
from scopekeeper.launch import place
from scopekeeper.launch.aside import same_hangup, step_out
from scopekeeper.launch.place import Place
from scopekeeper.launch.replace import model_of
from scopekeeper.launch.request import Request
from scopekeeper.launch.rules import compiled_path
from scopekeeper.model import Owner, Scope
from scopekeeper.plan import supersedes
from scopekeeper.regular_files import open_regular
from scopekeeper.selection import Selected
from scopekeeper.snapshot import Reader

_LOCK_SECONDS = 30.0
"""How long a launch waits for others that count, and end what they have to; then it goes on."""


def make_room(request: Request, launcher: place.Owner, where: Place, warnings: list[str]) -> None:
    """End what the new scope supersedes, and see that the lane is not full.

    Nothing is done for a scope that is there already. What the caller should be told is added to
    warnings. Raises ConflictError.
    """
    unit = names.unit_name(request.session, request.lane, request.run)
    if os.path.exists(f"{where.base}/{unit}"):
        return
    _one_at_a_time()
    scopes = [
        scope
        for scope in Reader(where.mount, unlock=True).snapshot(uid=os.getuid()).scopes
        if scope.lives and not (scope.problem or scope.stopping or scope.elsewhere)
    ]
    owner = model_of(launcher)
    if "supersede" in request.room:
        _supersede(request, owner, scopes, warnings)
    if "max_scopes" in request.room:
        _see_that_it_is_not_full(request, owner, scopes, warnings)


def _supersede(request: Request, owner: Owner, scopes: list[Scope], warnings: list[str]) -> None:
    run = (request.session, request.lane, request.session_id)
    targets = []
    for scope in scopes:
        if supersedes(*run, scope):
            members = scope.yielding([owner])
            meant = [Selected(scope)] if members is None else [Selected(scope, m) for m in members]
            targets += [stop.target_of(each) for each in meant]
    cause = Cause(Reason.SUPERSEDED, f"the run {request.session_id} takes its place")
    _end(targets, cause, warnings)


def _see_that_it_is_not_full(
    request: Request, owner: Owner, scopes: list[Scope], warnings: list[str]
) -> None:
    lane_class = names.lane_class(request.lane)
    most = int(request.room["max_scopes"])
    there = [scope for scope in scopes if names.lane_class(scope.lane) == lane_class]
    left_over = sorted(
        (
            scope
            for scope in there
            if scope.state == "orphan" and not scope.strays and scope.yielding([owner]) is None
        ),
        key=lambda scope: scope.born,
    )
    while len(there) >= most and left_over and request.room.get("when_full") == "stop-orphan":
        oldest = left_over.pop(0)
        cause = Cause(Reason.OWNER_GONE, f"its owner is gone, and the lane {lane_class} is full")
        leaves = frozenset(member.leaf for member in oldest.members)
        target = dataclasses.replace(stop.target_of(Selected(oldest)), leaves=leaves)
        _end([target], cause, warnings)
        there.remove(oldest)
    if len(there) >= most:
        raise ConflictError(
            f"the lane {lane_class} has {len(there)} scopes, its max_scopes is {most}",
            "end some of them: scopekeeper ls shows them, scopekeeper stop ends them",
        )


def _end(targets: list[stop.Target], cause: Cause, warnings: list[str]) -> None:
    """End scopes or members; raises ConflictError."""
    causes = [cause] * len(targets)
    with same_hangup():
        results = stop.stop(targets, causes=causes, warnings=warnings, step_out=step_out)
    for result in results:
        if result.outcome in ("remains", "refused", "changed"):
            raise ConflictError(
                f"{result.target.cgroup} could not be ended: "
                f"{result.problem or 'processes remain'}",
                "look with: scopekeeper ls --members",
            )


def _one_at_a_time() -> None:
    """Have launches of rules like these count one after the other.

    The lock is held until this process becomes its command: by then its own scope counts.
    """
    path = compiled_path()
    if not path:
        return
    folder = Path(path).parent
    folder.mkdir(mode=0o755, exist_ok=True)
    fd = open_regular(folder / "lock", os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.005)
