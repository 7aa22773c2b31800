"""The titles of sessions that ``ls`` shows: they are read when it runs, and nowhere stored.

A title can be the first words of a prompt. Each user's are read with that user's rights alone; a
user other than root has only their own.
"""

import os
from collections.abc import Sequence

from scopekeeper.scope.model import Scope

_SECONDS = 2.0
"""For the titles of all other users."""
_CLIENT_MAX, _ID_MAX = 32, 128
"""Characters of a client's name and of its session's id."""


def _may_have_title(scope: Scope) -> bool:
    return any(map(_is_unnamed, (scope.label, scope.session)))


def _is_unnamed(session: str) -> bool:
    """Return whether a client (claude:ID) or an owner (cursor-257) can have given this name."""
    name, _, pid = session.rpartition("-")
    if name and pid.isascii() and pid.isdecimal():
        return True
    client, _, its_id = session.partition(":")
    return _is_word(client, _CLIENT_MAX) and _is_word(its_id, _ID_MAX)


def _is_word(text: str, longest: int) -> bool:
    """Return whether a text has letters, digits, _, - and . alone, and no more than longest."""
    letters = text.translate(_NO_MARKS)
    is_plain = text.isascii() and (letters.isalnum() or not letters)
    return is_plain and 1 <= len(text) <= longest


_NO_MARKS = dict.fromkeys(map(ord, "_-."))


def of(scopes: Sequence[Scope]) -> dict[str, str]:
    """Return the titles of scopes by their cgroup; those without one are missing."""
    titled = [scope for scope in scopes if scope.lives and _may_have_title(scope)]
    if not titled:
        return {}
    from scopekeeper.clients import titles  # most lists have no such session

    own = os.geteuid()
    found = titles.read([scope for scope in titled if scope.uid == own])
    others = {scope.uid for scope in titled} - {own}
    if own or not others:
        return found

    from scopekeeper import as_user

    def work() -> object:
        return titles.read([scope for scope in titled if scope.uid == os.geteuid()])

    for answer in as_user.ask(others, work, _SECONDS):
        for cgroup, title in (answer.value or {}).items():
            found[cgroup] = title
    return found
