"""What a single word on a command line can mean: a run, a session, a scope or a member. Pure."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.scope.model import Scope, Snapshot
from scopekeeper.scope.names import SUFFIX
from scopekeeper.scope.selection import Selected, Selector, select

RUN, SESSION, SCOPE, MEMBER = "run", "session", "scope", "member"
KINDS = (RUN, SESSION, SCOPE, MEMBER)
"""The order in which they count where a word can mean several."""


def meanings(snapshot: Snapshot, word: str) -> dict[str, list[Selected]]:
    """Return all that a word can mean, by kind in the order of KINDS.

    A run by its id, a session by its key or its id, a scope by its unit with or without the suffix,
    a member by its name, its id or its leaf.
    """
    found: dict[str, list[Selected]] = {kind: [] for kind in KINDS}
    if not word:
        return {}
    for scope in snapshot.scopes:
        for kind in _kinds_of(scope, word):
            found[kind].append(Selected(scope))
        if not scope.elsewhere:
            found[MEMBER] += [
                Selected(scope, member)
                for member in scope.living_members or scope.members
                if word in (member.name, member.claims, member.member_id, member.leaf)
            ]
    if all(each.scope.session_id == word for each in found[RUN]):
        found[RUN] = []  # the run of a lane that lives for one: its session id, as of others
    return {kind: each for kind, each in found.items() if each}


def _kinds_of(scope: Scope, word: str) -> list[str]:
    kinds = [SCOPE] if word in (scope.unit, scope.unit.removesuffix(SUFFIX)) else []
    if scope.elsewhere:
        return kinds  # what has that name in a container is something else
    if word in (scope.session_id, *(each.session for each in scope.identities)):
        kinds.append(SESSION)
    if any(word == each.run for each in scope.identities):
        kinds.append(RUN)
    return kinds


@dataclass(frozen=True, slots=True)
class Chosen:
    """What some words mean."""

    selected: tuple[Selected, ...]
    missing: tuple[str, ...]
    """Words that mean nothing."""
    several: tuple[tuple[str, tuple[Selected, ...]], ...]
    """Words that are the name of several members, and those: none of them is selected."""
    notes: tuple[str, ...]
    """Which kind was chosen, in a sentence for each word that can mean several."""


def choose(snapshot: Snapshot, words: Sequence[str], selector: Selector) -> Chosen:
    """Return what some words mean; the selector narrows it down.

    Of what a word can mean the first kind counts. A member's name counts where one alone has it.
    """
    selected: dict[tuple[str, str], Selected] = {}
    missing, several, notes = [], [], []
    for word in words:
        meant = meanings(snapshot, word)
        if not meant:
            missing.append(word)
        found = {
            kind: narrowed
            for kind, each in meant.items()
            if (narrowed := _narrowed(each, selector))
        }
        if not found:
            continue
        kind, chosen = next(iter(found.items()))
        if kind == MEMBER and len(chosen) > 1:
            several.append((word, tuple(chosen)))
            continue
        if len(found) > 1:
            notes.append(f"{word} is a {' and a '.join(found)}: the {kind} was chosen")
        for each in chosen:
            leaf = each.member.leaf if each.member else ""
            selected[each.scope.directory, leaf] = each
    whole = {directory for directory, leaf in selected if not leaf}
    kept = [each for (at, leaf), each in selected.items() if not leaf or at not in whole]
    return Chosen(tuple(kept), tuple(missing), tuple(several), tuple(notes))


def _narrowed(meant: list[Selected], selector: Selector) -> list[Selected]:
    found = []
    for each in meant:
        own = dataclasses.replace(selector, units=frozenset([each.scope.unit]))
        for part in select(Snapshot((each.scope,)), own):
            if each.member is None:
                found.append(part)
            elif part.member is None or part.member is each.member:
                found.append(each)
    return found
