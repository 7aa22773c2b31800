"""Resolve a word of a command line to a run, a session, a scope or a member. Pure."""

from collections.abc import Sequence

from scopekeeper.data import dataclass, replace
from scopekeeper.scope.model import Scope, Snapshot
from scopekeeper.scope.names import SUFFIX
from scopekeeper.scope.selection import Selected, Selector, select, shows

RUN, SESSION, SCOPE, MEMBER = "run", "session", "scope", "member"
KINDS = (RUN, SESSION, SCOPE, MEMBER)
"""In order of precedence, for a word that matches several."""


def meanings(snapshot: Snapshot, word: str) -> dict[str, list[Selected]]:
    """Return everything that a word matches, by kind in the order of KINDS.

    A run by its id, a session by its key or id, a scope by its unit with or without the suffix, a
    member by its name, id or leaf.
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
                for member in scope.present_members or scope.members
                if word in (member.name, member.claims, member.member_id, member.leaf)
            ]
    if all(each.scope.session_id == word for each in found[RUN]):
        found[RUN] = []  # in a lane whose sessions last for one run, the run is the session id
    return {kind: each for kind, each in found.items() if each}


def _kinds_of(scope: Scope, word: str) -> list[str]:
    kinds = [SCOPE] if word in (scope.unit, scope.unit.removesuffix(SUFFIX)) else []
    if scope.elsewhere:
        return kinds  # the same name in a container is another session
    if word in (scope.session_id, *(each.session for each in scope.identities)):
        kinds.append(SESSION)
    if any(word == each.run for each in scope.identities):
        kinds.append(RUN)
    return kinds


@dataclass(frozen=True, slots=True)
class Chosen:
    """The result of resolving some words."""

    selected: tuple[Selected, ...]
    missing: tuple[str, ...]
    """Words that match nothing."""
    several: tuple[tuple[str, tuple[Selected, ...]], ...]
    """Words that match several members, with these; none of them is selected."""
    notes: tuple[str, ...]
    """A sentence for each word that matches several kinds: which one was chosen."""
    kinds: tuple[tuple[str, str], ...] = ()
    """The words that match, each with the kind that was chosen."""


def choose(snapshot: Snapshot, words: Sequence[str], selector: Selector) -> Chosen:
    """Resolve some words, and narrow the result by the selector.

    The first kind that a word matches counts. A member's name must be unique.
    """
    selected: dict[tuple[str, str], Selected] = {}
    missing, several, notes, kinds = [], [], [], []
    for word in words:
        matched = meanings(snapshot, word)
        if not matched:
            missing.append(word)
        found = {
            kind: narrowed
            for kind, each in matched.items()
            if (narrowed := _narrowed(each, selector))
        }
        if not found:
            continue
        kind, chosen = next(iter(found.items()))
        kinds.append((word, kind))
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
    return Chosen(tuple(kept), tuple(missing), tuple(several), tuple(notes), tuple(kinds))


def _narrowed(matched: list[Selected], selector: Selector) -> list[Selected]:
    found = []
    for each in matched:
        own = replace(selector, units=frozenset([each.scope.unit]))
        for part in select(Snapshot((each.scope,)), own):
            if each.member is None:
                found.append(part)
            elif part.member is None or part.member is each.member:
                found.append(each)
    return found


def listed(
    snapshot: Snapshot, words: Sequence[str], selector: Selector
) -> tuple[list[Scope], tuple[str, ...]]:
    """Return the scopes that a list shows for words and selector, and unknown words."""
    if not words:
        return [scope for scope in snapshot.scopes if shows(selector, scope)], ()
    found = choose(snapshot, words, selector)
    chosen = [*found.selected, *(each for _, several in found.several for each in several)]
    directories = {each.scope.directory for each in chosen}
    return [each for each in snapshot.scopes if each.directory in directories], found.missing
