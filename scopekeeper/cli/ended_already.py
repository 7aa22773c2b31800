"""Whether a word that names nothing that is there names something that has ended."""

import contextlib
import shlex

from scopekeeper import state
from scopekeeper.errors import ScopekeeperError
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle import unseen_ends
from scopekeeper.scope import names


def hint(word: str) -> str:
    """Return the command that shows how it ended; '' if no session or run had that name."""
    return f"it has ended; see: scopekeeper why {shlex.quote(word)}" if _is_known(word) else ""


def _is_known(word: str) -> bool:
    leaf = names.parse_leaf(word)
    about = leaf[1] if leaf else word
    with contextlib.suppress(ScopekeeperError):
        if HistoryStore(state.directory()).read(about=about, limit=1):
            return True
    with contextlib.suppress(LookupError):  # no cgroup2
        # a keeper takes some seconds to record an end
        return bool(unseen_ends.over(mount_point(), lambda end: _is_about(end, about)))
    return False


def _is_about(end: End, about: str) -> bool:
    return about in (end.session, end.run, end.name, end.member_id, end.unit)
