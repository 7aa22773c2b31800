"""When scopes end, for ``ls``: asks the planner of ``reconcile``, and loads it only if need be."""

import os
from collections import Counter
from collections.abc import Mapping

from scopekeeper.data import replace
from scopekeeper.quantities import show_duration
from scopekeeper.scope import activity
from scopekeeper.scope.model import Liveness, Member, Scope, Snapshot

_NEVER = float("inf")
TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.lifecycle.plan import Action
    from scopekeeper.policy.rules import Policy


class Ends:
    """The moments at which the scopes of a snapshot end, and their members.

    Unknown for scopes of other users, who have policies of their own, and if the policy is
    invalid. It does not ask the kernel who holds a server's socket, which takes longer than all of
    ``ls``.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._now = snapshot.now
        self._moments, self._unstarted = _moments(snapshot)

    def seconds(self, what: Scope | Member) -> float | None:
        """Return the seconds until it ends; infinity means never, None unknown."""
        moment = self._moments.get(what.directory)
        return None if moment is None else max(moment - self._now, 0.0) / 1e6

    def state(self, what: Scope | Member) -> str:
        """Return its state: nothing is kept any more that a reconcile ends now."""
        is_over = what.state == "kept" and self.seconds(what) == 0
        return "orphan" if is_over else what.state

    def words(self, what: Scope | Member) -> str:
        """Return ``now``, ``in 23h``, ``10s after reconcile``, ``never`` or ``-``."""
        return in_words(self.seconds(what), after_reconcile=what.directory in self._unstarted)

    def document(self, what: Scope | Member) -> dict[str, object]:
        """Return the JSON keys."""
        seconds = self.seconds(what)
        if seconds is None:
            return {"ends": None, "ends_in_s": None, "ends_after_reconcile": False}
        if seconds == _NEVER:
            return {"ends": "never", "ends_in_s": None, "ends_after_reconcile": False}
        return {"ends": "later" if seconds else "now", "ends_in_s": round(seconds, 3),
                "ends_after_reconcile": what.directory in self._unstarted}  # fmt: skip


def in_words(seconds: float | None, *, after_reconcile: bool) -> str:
    """Return when something ends; after_reconcile is whether that counts from the next one."""
    if seconds is None:
        return "-"
    if seconds == _NEVER:
        return "never"
    if seconds and after_reconcile:
        return f"{coarse(seconds)} after reconcile"
    return f"in {coarse(seconds)}" if seconds else "now"


def coarse(seconds: float) -> str:
    """Return a duration in its largest unit: ``23h``, ``4m``, ``9s``."""
    text = show_duration(max(seconds, 10))
    largest = next(at for at, char in enumerate(text) if char.isalpha())
    return text[: largest + 1] if seconds >= 10 else f"{int(seconds)}s"


def _moments(snapshot: Snapshot) -> tuple[dict[str, float | None], frozenset[str]]:
    """Return the moments by directory, and which of them count from the next reconcile."""
    own = [scope for scope in snapshot.scopes if scope.uid == os.getuid()]
    places = Counter(map(_place, snapshot.scopes))
    asked = [scope for scope in own if not _goes_on(scope, places)]
    policy = _policy() if asked else None
    if policy is None:
        return {}, frozenset()
    from scopekeeper.lifecycle.ends import ends_of, unstarted
    from scopekeeper.lifecycle.plan import plan

    if policy.counts_idle:
        wanted = {scope.directory for scope in asked}
        measured = [
            _measured(scope) if scope.directory in wanted else scope for scope in snapshot.scopes
        ]
        snapshot = replace(snapshot, scopes=tuple(measured))
    actions = plan(snapshot, policy)
    by_scope: dict[str, list[Action]] = {}
    for each in actions:
        by_scope.setdefault(each.scope.directory, []).append(each)
    found: dict[str, float | None] = {}
    for scope in asked:
        found |= ends_of(scope, by_scope.get(scope.directory, []), snapshot.now)
    waiting = unstarted(actions, found)
    return found, frozenset() if not waiting or _keeper_runs() else waiting


def _keeper_runs() -> bool:
    """Return whether a keeper runs: it starts the time of a grace at once."""
    from scopekeeper import keeper_address  # slow: imports sockets and json

    return keeper_address.runs()


def _policy() -> "Policy | None":
    from scopekeeper.errors import ScopekeeperError
    from scopekeeper.policy.load import load

    try:
        return load()
    except ScopekeeperError:
        return None  # reconcile and policy show report it


def _goes_on(scope: Scope, places: Mapping[tuple[str, str], int]) -> bool:
    """Return whether no policy can give a moment: its owner lives, and nothing is over.

    places has how many scopes each session and lane has. The planner would know no moment either,
    and takes 5 ms to load.
    """
    if scope.problem or scope.claims or scope.ttl is not None or scope.idle_since or scope.strays:
        return False
    if scope.session_id and places[_place(scope)] > 1:
        return False  # one may supersede the other
    return scope.state == "running" and all(map(_member_goes_on, scope.members))


def _place(scope: Scope) -> tuple[str, str]:
    return scope.session, scope.lane


def _member_goes_on(member: Member) -> bool:
    return (
        member.leader_lives
        and member.lifetime != "detached"
        and not (member.problem or member.claims or member.stopping or member.abandoned)
        and member.idle_since is None
        and member.owner_state is not None
        and member.owner_state.liveness is not Liveness.GONE
    )


def _measured(scope: Scope) -> Scope:
    """Add the counters that show whether it is idle."""
    members = tuple(
        replace(member, activity=activity.read(member.directory, member.pids))
        for member in scope.members
    )
    inside = [pid for member in members for pid in member.pids]
    counters = activity.read(scope.directory, inside)
    return replace(scope, members=members, activity=counters)
