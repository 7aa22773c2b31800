"""Names like one that matches nothing, so that a typing error is seen."""

from collections.abc import Iterable, Iterator

from scopekeeper.cli.table import MARK, with_short_ids
from scopekeeper.scope.model import Scope, Snapshot
from scopekeeper.scope.names import PREFIX
from scopekeeper.scope.selection import Selector

_CLOSE = 0.75
"""How alike two short names have to be, of 1."""
_ERRORS = 2
"""Characters in which long names may differ: more are another id, not a typing error."""
_MOST = 3
_BEGINNING = 6
"""Characters that have to be there of the beginning of a name."""
_WORD = 3
"""Characters of a beginning that is a word of its own, as codex is in codex-257."""


def similar(wanted: str, known: Iterable[str]) -> list[str]:
    """Return the names most like a wanted one that is not among them, the most alike first. Pure.

    Names that begin with it, or that a table shortens to it; without one, typing errors.
    Names that differ in their digits alone are different things, not typing errors.
    """
    import difflib

    all_names = [name for name in dict.fromkeys(known) if name]
    shortened = [name for name in all_names if _is_short_form(wanted, name)]
    if shortened:
        return shortened[:_MOST]
    names = [name for name in all_names if _letters(name) != _letters(wanted)]
    cutoff = max(_CLOSE, 1 - _ERRORS / max(len(wanted), 1))
    return difflib.get_close_matches(wanted, names, _MOST, cutoff)


def _is_short_form(wanted: str, name: str) -> bool:
    if name == wanted:
        return False
    if len(wanted) < _BEGINNING:
        import re  # only for an error

        return len(wanted) >= _WORD and re.match(re.escape(wanted) + "[-:]", name) is not None
    if name.startswith(wanted):
        return True
    return is_shown_form(wanted, name)


def is_shown_form(wanted: str, name: str) -> bool:
    """Return whether a table shows a name in this form, with or without its marks. Pure."""
    parts = wanted.split(MARK)
    if len(parts) == 1:
        return wanted == with_short_ids(name) != name
    # in order, as the parts of a name that was cut there
    at = len(parts[0])
    for part in parts[1:-1]:
        at = name.find(part, at) + len(part)
        if at < len(part):
            return False
    return name.startswith(parts[0]) and name[at:].endswith(parts[-1])


def _letters(name: str) -> str:
    return "".join(char for char in name if not char.isdigit())


def hint(wanted: str, known: Iterable[str]) -> str:
    """Return ``; is it alpha?`` for a name that matches nothing, '' without a similar one. Pure."""
    found = similar(wanted, known)
    return f"; is it {' or '.join(found)}?" if found else ""


def in_full(word: str, snapshot: Snapshot) -> str:
    """Return the one name that a table shows as this word; '' if there is none, or several. Pure.

    A word without six characters beside its marks is none.
    """
    if len(word.replace(MARK, "")) < _BEGINNING:
        return ""
    is_unit = word.startswith(PREFIX)
    known = {name for each in snapshot.scopes for name in _names(each, is_unit=is_unit)}
    found = {name for name in known if name and is_shown_form(word, name)}
    return found.pop() if len(found) == 1 else ""


def like_word(word: str, snapshot: Snapshot) -> str:
    """Return the hint for a word, which may be the name of anything. Pure."""
    is_unit = word.startswith(PREFIX)
    return hint(word, (name for each in snapshot.scopes for name in _names(each, is_unit=is_unit)))


def like_selected(selector: Selector, snapshot: Snapshot) -> str:
    """Return the hint for the first option of a selector that no scope has. Pure."""
    scopes = snapshot.scopes
    members = [member for scope in scopes for member in scope.living_members]
    owners = [each.owner_state.owner.unit for each in members if each.owner_state is not None]
    for wanted, known in (
        (selector.session, [name for x in scopes for name in (x.session, x.label) if name]),
        (selector.lane, [scope.lane for scope in scopes]),
        (selector.run, [scope.run for scope in scopes]),
        (selector.session_id, [scope.session_id for scope in scopes]),
        (selector.name, [member.name for member in members]),
        (selector.owner, owners),
    ):
        if wanted is not None and wanted not in known:
            return hint(wanted, known)
    return ""


def _names(scope: Scope, *, is_unit: bool) -> Iterator[str]:
    """Yield the names of a scope: its unit has those of session and lane in it."""
    if is_unit:
        yield scope.unit
        return
    yield from (scope.session, scope.label, scope.session_id, scope.run)
    yield from (member.name for member in scope.living_members)
