"""The titles of sessions that ``ls`` shows: they are read when it runs, and nowhere stored.

A title can be the first words of a prompt. Each user's are read with that user's rights alone; a
user other than root has only their own.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

from scopekeeper.scope.model import Scope

_SECONDS = 2.0
"""For the titles of all other users."""
_UNNAMED = re.compile(r"[\w.-]{1,32}:[\w.-]{1,128}|.+-[0-9]+", re.ASCII | re.DOTALL)
"""The names of sessions that a client or an owner can have given, and no person or gateway."""


def _may_have_title(scope: Scope) -> bool:
    return any(map(_UNNAMED.fullmatch, (scope.label, scope.session)))


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

    def work() -> Any:  # noqa: ANN401  a JSON value
        return titles.read([scope for scope in titled if scope.uid == os.geteuid()])

    for answer in as_user.ask(others, work, _SECONDS):
        for cgroup, title in (answer.value or {}).items():
            found[cgroup] = title
    return found
