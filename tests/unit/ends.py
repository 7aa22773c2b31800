"""Ends for tests; loads nothing that takes long, since processes of their own load it too."""

import time

from scopekeeper.history.end import End
from scopekeeper.scope.reason import Reason

NOW = time.time_ns() // 1000


def member(number):
    """Return the id of a member."""
    return f"{number:08x}"


def an_end(member_id="00000001", **how):
    """Return an end of which little is known."""
    known = {
        "started": 1, "ended": NOW, "session": "s", "lane": "main", "name": "git",
        "reason": Reason.UNKNOWN,
    }  # fmt: skip
    return End(member_id=member_id, **(known | how))
