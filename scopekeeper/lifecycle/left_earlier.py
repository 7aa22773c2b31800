"""What had left scopes of a session before these ended, and lives on: find it and end it.

``leavers`` is about the targets of one stop; here the scope can be gone already.
"""

from collections.abc import Collection, Mapping, Sequence

from scopekeeper.history import recording
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle.escaped import (
    Escaped,
    end,
    find,
    find_all,
    is_selected,
    living_members,
    may_be_ended,
)
from scopekeeper.lifecycle.escaped_end import ends_of
from scopekeeper.scope.reason import Cause
from scopekeeper.scope.selection import Selector
from scopekeeper.scope.snapshot import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.history.end import End


def is_named(each: Escaped, word: str) -> bool:
    """Return whether a word is its session, scope or leaf."""
    return bool(word) and word in (each.session, each.label, each.scope, each.leaf)


def find_left(selector: Selector, words: Collection[str], uid: int | None) -> list[Escaped]:
    """Return what had left scopes of this session and lane, or of these words."""
    if not words and selector.session is None:
        return []
    if not find_all(uid):
        return []
    snapshot = Reader(mount_point()).snapshot(uid=uid)
    return [each for each in find(snapshot, uid) if _is_selected(each, selector, words)]


def end_left(
    found: Sequence[Escaped], uid: int | None, cause: Cause, warnings: list[str]
) -> dict[int, str]:
    """End what is proved to be a leftover, and write that to the history.

    Returns for each such pid ``terminated``, ``killed`` or ``changed``.
    """
    doomed = [each for each in found if may_be_ended(each)]
    outcomes = end(doomed, living_members(Reader(mount_point()).snapshot(uid=uid)), uid)
    record(found, outcomes, cause, warnings)
    return outcomes


def record(
    found: Sequence[Escaped], outcomes: Mapping[int, str], cause: Cause, warnings: list[str]
) -> None:
    """Write those that were ended to the history of their users."""
    by_user: dict[int, list[End]] = {}
    for each in found:
        by_user.setdefault(each.uid, []).extend(ends_of([each], outcomes, cause))
    news, problems = recording.keep_for_users(by_user)
    recording.tell(news)
    warnings += problems


def _is_selected(each: Escaped, selector: Selector, words: Collection[str]) -> bool:
    if words:
        return any(is_named(each, word) for word in words)
    return selector.knows_by_name and is_selected(each, selector)
