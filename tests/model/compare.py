"""The differences between the model and what is there. Pure: both in, words out.

The first word of each is what it counts as: see ``docs/reliability.md``.
"""

from collections.abc import Iterator

from .seen import Scope, Seen
from .shadow import Member, Shadow


def differences(
    shadow: Shadow, seen: Seen, yard: str, *, settled: bool, history: bool
) -> list[str]:
    """Return what is not as it must be.

    settled: a keeper or reconcile has done what is due. history: each end must have its reason by
    now. yard is the cgroup to which helpers leave.
    """
    wrong = list(_processes(shadow, seen, yard))
    for unit, scope in seen.scopes.items():
        wrong += _scope(shadow, unit, scope, settled=settled)
    for member in shadow.members:
        wrong += _listed(member, seen, settled=settled)
        wrong += _paths(member, seen, settled=settled)
        wrong += _reason(member, seen, history=history)
    wrong += [f"early: {each.name} is removed, and was never handed over or taken back"
              for each in shadow.kept if each not in seen.there]  # fmt: skip
    return wrong


def for_good(wrong: list[str]) -> list[str]:
    """Return those that no waiting mends."""
    return [each for each in wrong if each.startswith(("innocent", "early"))]


def _processes(shadow: Shadow, seen: Seen, yard: str) -> Iterator[str]:
    known: set[tuple[str, int]] = set()
    for member in shadow.members:
        must = dict(member.alive())
        for pid in {member.command, member.helper} - {0}:
            key = member.tag, pid
            known.add(key)
            place = seen.where.get(key)
            if pid not in must:
                if place is not None:
                    yield f"left: pid {pid} of {member.tag} has to be gone, and is in {place}"
                continue
            is_out = must[pid]
            if place is None:
                if is_out or not member.due():
                    yield f"innocent: pid {pid} of {member.tag} has to live, and does not"
            elif is_out and place != yard:
                yield f"lost: pid {pid} of {member.tag} had left to {yard}, and is in {place}"
            elif not is_out and not place.endswith(f"/{member.unit}/{member.leaf}"):
                yield f"lost: pid {pid} of {member.tag} is in {place}, not in {member.leaf}"
    yield from (f"lost: pid {pid} of {tag} is nobody's" for tag, pid in seen.where.keys() - known)


def _scope(shadow: Shadow, unit: str, scope: Scope, *, settled: bool) -> Iterator[str]:
    inside = {each.leaf: each for each in shadow.living() if each.unit == unit}
    if not scope.pids:
        if settled:
            yield f"left: {unit} is empty"
        return
    if scope.state != "active":
        yield f"lost: {unit} has processes, and its unit is {scope.state or 'unknown'}"
    if "SESSION" not in scope.record:
        yield f"lost: {unit} has processes and no record"
    if "STATE" in scope.record:
        yield f"left: {unit} is marked {scope.record['STATE']}"
    for member in inside.values():
        place = scope.record.get("SESSION"), scope.record.get("LANE")
        if place != (member.session, member.lane):
            yield f"lost: {member.tag} is in {unit}, whose session and lane are {place}"
    yield from _leaves(unit, scope, inside, settled=settled)


def _leaves(unit: str, scope: Scope, inside: dict[str, Member], *, settled: bool) -> Iterator[str]:
    is_held = any(each.waits for each in inside.values())
    for leaf, record in scope.leaves.items():
        if leaf not in inside and settled and not (leaf == "hold" and is_held):
            yield f"left: {unit} has {leaf}, and the model nothing of it"
        if "STATE" in record:
            yield f"left: {unit}/{leaf} is marked {record['STATE']}"
        if leaf in inside and leaf in scope.populated and "NAME" not in record:
            yield f"lost: {unit}/{leaf} has processes and no record"


def _listed(member: Member, seen: Seen, *, settled: bool) -> Iterator[str]:
    shown = seen.listed.get(member.leaf)
    if member.has_ended:
        if shown and (settled or shown["pids"]):
            yield f"listing: ls has {member.tag}, which has ended"
        return
    if member.due():
        return
    if shown is None:
        yield f"listing: ls does not have {member.tag}"
        return
    place = shown["session"], shown["lane"], shown["unit"], shown["name"]
    if place != (member.session, member.lane, member.unit, member.name):
        yield f"listing: ls has {member.tag} as {place}"
    pids = {pid for pid, is_out in member.alive() if not is_out}
    if set(shown["pids"]) != pids:
        yield f"listing: ls has the pids {shown['pids']} in {member.tag}, not {sorted(pids)}"
    is_plain = member.leads and member.owner.lives and not member.waits
    if is_plain and shown["state"] != "running":
        yield f"listing: ls calls {member.tag} {shown['state']}, and it runs"


def _paths(member: Member, seen: Seen, *, settled: bool) -> Iterator[str]:
    for path in member.paths:
        if not member.has_ended and not member.due() and path not in seen.there:
            yield f"early: {path.name} is removed, and {member.tag} lives"
        # what has left may still use it
        if member.has_ended and settled and not member.helps and path in seen.there:
            yield f"left: {path.name} is there, and {member.tag} has ended"


def _reason(member: Member, seen: Seen, *, history: bool) -> Iterator[str]:
    if not member.was_born:
        return
    rows = [(pid, why) for which, pid, why in seen.ends if member.leaf.endswith(f".{which}")]
    # what had left, and was ended too, has a row of its own
    found = [why for pid, why in rows if not (pid and pid == member.helper)]
    if len(found) > 1 or len(rows) > len(found) + 1:
        yield f"history: {member.tag} has more than one end: {rows}"
    elif not member.has_ended:
        if found and not member.due():
            yield f"history: {member.tag} lives, and has the end {found}"
    elif found and found[0] not in member.reasons:
        words = " or ".join(member.reasons)
        yield f"history: {member.tag} ended by {found[0]!r}, not by {words}"
    elif history and not found:
        yield f"history: {member.tag} has ended, and has no reason"
