"""Finds how the service ended that owns what is about to be stopped.

One end of a service is one reason: what it leaves behind may also be an orphan, a server that
nobody can talk to any more, or leftovers of a command, whichever rule comes first.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence

from scopekeeper.lifecycle.plan import Action, Step, Verdict
from scopekeeper.scope.model import Owner, OwnerState
from scopekeeper.systemd.service_end import was_killed
from scopekeeper.systemd.shutdown import UnitState

_BY_ITS_END = (Verdict.ABANDONED, Verdict.LEADERLESS)
"""What a member is found in whose service has ended, and is not inactive yet."""


_SECONDS = 1.0
"""How long systemd may take to answer before a stop goes on without the answer."""
Ask = Callable[[Owner], Awaitable[UnitState | None]]


async def explained(
    doing: Sequence[Action], ask: Ask, how_killed: Callable[[Owner], str]
) -> list[Action]:
    """Return the actions, each with the end of the service as its cause if that is the cause.

    ask returns what systemd reports about a life of a service; how_killed how it was killed, as far
    as that is known by then. Each service is asked about once.
    """
    owners = {owned.owner for each in doing if (owned := _owned_by(each)) is not None}
    states: dict[Owner, UnitState | None] = {}
    for owner in owners:
        with contextlib.suppress(TimeoutError):
            states[owner] = await asyncio.wait_for(ask(owner), _SECONDS)
    return [_explained(each, states, how_killed) for each in doing]


def _owned_by(action: Action) -> OwnerState | None:
    """Return the service that owns what an action stops, if its end may be the cause."""
    if action.step is not Step.STOP or action.verdict not in (Verdict.ORPHAN, *_BY_ITS_END):
        return None
    members = action.scope.living_members if action.member is None else (action.member,)
    found = {
        each.owner_state
        for each in members
        if each.lifetime == "gateway" and each.owner_state and each.owner_state.owner.unit
    }
    return found.pop() if len(found) == 1 else None


def _explained(
    action: Action, states: Mapping[Owner, UnitState | None], how_killed: Callable[[Owner], str]
) -> Action:
    owned = _owned_by(action)
    if owned is None:
        return action
    owner, state = owned.owner, states.get(owned.owner)
    killed = how_killed(owner)
    proof = was_killed(owner.unit, killed) if killed else ""
    if action.verdict is Verdict.ORPHAN:
        evidence = action.evidence.replace(owned.evidence, proof) if proof else action.evidence
        return dataclasses.replace(action, evidence=evidence)
    if state is None or not state.is_leaving:
        return action
    evidence = proof or state.evidence(owner.unit)
    return dataclasses.replace(action, verdict=Verdict.ORPHAN, evidence=evidence)
