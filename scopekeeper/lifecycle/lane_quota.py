"""Makes room in a lane for a new scope, if the lane's rules demand it.

Stops only what yields to the launch's owner: see ``OwnerState.yields_to``.
"""

import contextlib
import fcntl
import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scopekeeper.errors import ConflictError
from scopekeeper.lifecycle import stop, stop_target
from scopekeeper.lifecycle.plan import supersedes
from scopekeeper.policy.cache_format import compiled_path
from scopekeeper.regular_files import open_regular
from scopekeeper.scope import names
from scopekeeper.scope.model import Identity, Owner, Scope
from scopekeeper.scope.nearby import About
from scopekeeper.scope.placement import Place
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.scope.selection import Selected
from scopekeeper.scope.snapshot import Reader

_Ending = Callable[[list[stop_target.Target], Cause], None]
_LOCK_SECONDS = 30.0
"""How long a launch waits for other launches that make room; then it continues."""


@dataclass(frozen=True, slots=True)
class NewScope:
    """The launch that needs room."""

    identity: Identity
    session_id: str
    owner: Owner
    rules: Mapping[str, str]
    """Those of its lane that are set, of ``supersede``, ``max_scopes`` and ``when_full``."""


def make_room(
    launch: NewScope, where: Place, warnings: list[str], step_out: Callable[[], None]
) -> None:
    """Stop what the new scope supersedes, and check that the lane is not full.

    Does nothing if the scope exists already. Adds to warnings what the caller should report.
    Raises ConflictError.
    """
    wanted = launch.identity
    unit = names.unit_name(wanted.session, wanted.lane, wanted.run)
    if os.path.exists(f"{where.base}/{unit}"):
        return
    _one_at_a_time()
    every = "max_scopes" in launch.rules
    about = None if every else About(frozenset((wanted.session,)))
    scopes = [
        scope
        for scope in Reader(where.mount, unlock=True).snapshot(uid=os.getuid(), about=about).scopes
        if scope.lives and not (scope.problem or scope.stopping or scope.elsewhere)
    ]
    end = functools.partial(_end, warnings=warnings, step_out=step_out)
    if "supersede" in launch.rules:
        _supersede(launch, scopes, end)
    if every:
        _check_quota(launch, scopes, end)


def _supersede(launch: NewScope, scopes: list[Scope], end: _Ending) -> None:
    run = (launch.identity.session, launch.identity.lane, launch.session_id)
    targets = []
    for scope in scopes:
        if supersedes(*run, scope):
            members = scope.yielding([launch.owner])
            chosen = [Selected(scope)] if members is None else [Selected(scope, m) for m in members]
            targets += [stop_target.target_of(each, as_judged=True) for each in chosen]
    cause = Cause(Reason.SUPERSEDED, f"the run {launch.session_id} takes its place")
    end(targets, cause)


def _check_quota(launch: NewScope, scopes: list[Scope], end: _Ending) -> None:
    lane_class = names.lane_class(launch.identity.lane)
    most = int(launch.rules["max_scopes"])
    there = [scope for scope in scopes if names.lane_class(scope.lane) == lane_class]
    leftovers = sorted(
        (
            scope
            for scope in there
            if scope.state in ("orphan", "kept")
            and scope.is_orphan
            and not scope.strays
            and scope.yielding([launch.owner]) is None
        ),
        key=lambda scope: scope.born,
    )
    while len(there) >= most and leftovers and launch.rules.get("when_full") == "stop-orphan":
        oldest = leftovers.pop(0)
        cause = Cause(Reason.OWNER_GONE, f"its owner is gone, and the lane {lane_class} is full")
        end([stop_target.target_of(Selected(oldest), as_judged=True)], cause)
        there.remove(oldest)
    if len(there) >= most:
        raise ConflictError(
            f"the lane {lane_class} has {len(there)} scopes, its max_scopes is {most}",
            "end some of them: scopekeeper ls shows them, scopekeeper stop ends them",
        )


def _end(
    targets: list[stop_target.Target],
    cause: Cause,
    *,
    warnings: list[str],
    step_out: Callable[[], None],
) -> None:
    """Stop scopes or members; raises ConflictError."""
    causes = [cause] * len(targets)
    results = stop.stop(targets, causes=causes, warnings=warnings, step_out=step_out)
    for result in results:
        if result.outcome in ("remains", "refused", "changed"):
            raise ConflictError(
                f"{result.target.cgroup} could not be ended: "
                f"{result.problem or 'processes remain'}",
                "look with: scopekeeper ls --members",
            )


def _one_at_a_time() -> None:
    """Let launches that count scopes do so one after the other.

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
