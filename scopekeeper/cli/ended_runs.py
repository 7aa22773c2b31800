"""Runs that have ended, for ``ls --all``: from the history, and from the records of ``exec``."""

import os
import time
from collections.abc import Collection

from scopekeeper.cli.ends import coarse
from scopekeeper.data import replace
from scopekeeper.scope.model import Identity
from scopekeeper.scope.selection import Selector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scopekeeper.exec.run import Ended, Run
    from scopekeeper.history.end import End

ENDED = "ended"
"""Their state."""
_MOST = 100
"""Only the newest."""


def find(
    selector: Selector, words: Collection[str], living: Collection[str], *, all_users: bool
) -> "list[dict[str, Any]]":
    """Return the ended runs, the newest last, each with "uid", "document" and what is shown.

    Of what selector compares, an ended run has session, lane, run and name: any other condition
    matches none. A word is a session or the id of a run. living has the units that are listed
    anyway. Histories of other users are read by root alone. Warns if the history cannot be
    read.
    """
    from scopekeeper.cli import unseen
    from scopekeeper.cli.history import document, read_histories
    from scopekeeper.cli.show import warn
    from scopekeeper.errors import HistoryError
    from scopekeeper.scope.reason import Reason

    unseen.collect()

    def read() -> "list[dict[str, Any]]":
        return [
            {
                "ended": end.ended,
                "document": document(end),
                **_shown(end),
                "went_on": f"went on {end.evidence}" if end.reason is Reason.CONTINUED else "",
            }
            for end in _ends(selector, words)[-_MOST:]
            if end.unit not in living
        ]

    try:
        return read_histories(read, all_users=all_users and os.geteuid() == 0)[-_MOST:]
    except HistoryError as error:
        warn([f"the ended runs are not listed: {error}"])
        return []


def has(ended: "list[dict[str, Any]]", word: str) -> bool:
    """Return whether a word is the session or the id of one of these runs."""
    return any(
        word in [each["document"][key] for key in ("session", "label", "run")] for each in ended
    )


def _ends(selector: Selector, words: Collection[str]) -> list["End"]:
    from scopekeeper import state
    from scopekeeper.exec.run import load_all
    from scopekeeper.history.store import HistoryStore
    from scopekeeper.scope.reason import Reason

    ends = {
        end.run: end
        for end in HistoryStore(state.directory()).read(session=selector.session)
        if end.kind == "pty" and end.run
    }
    for run in load_all():
        known = ends.get(run.id)
        if run.ended is not None and (known is None or known.reason is Reason.CONTINUED):
            ends[run.id] = replace(end_of(run, run.ended), label=known.label if known else "")
    found = [end for end in ends.values() if _is_selected(end, selector, words)]
    return sorted(found, key=lambda end: end.ended)


def _is_selected(end: "End", selector: Selector, words: Collection[str]) -> bool:
    if not replace(selector, name=None).knows_by_name:
        return False
    is_named = selector.name in (None, end.name)
    sessions = (end.session, end.label) if end.label else (end.session,)
    is_meant = not words or end.run in words or any(each in words for each in sessions)
    return (
        is_named
        and is_meant
        and any(selector.matches_identity(Identity(x, end.lane, end.run)) for x in sessions)
    )


def end_of(run: "Run", ended: "Ended") -> "End":
    """Return the end of a run from the run's own record."""
    from scopekeeper.history.end import End
    from scopekeeper.scope import names
    from scopekeeper.scope.reason import Reason

    leaf = names.parse_leaf(run.leaf)
    return End(
        member_id=leaf[1] if leaf else run.id,
        started=run.joined or run.started,
        ended=ended.at,
        session=run.session,
        lane=run.lane,
        name=run.name,
        reason=Reason.of(ended.reason),
        evidence=ended.evidence,
        run=run.id,
        kind="pty",
        lifetime=run.lifetime,
        exit_status=ended.exit_status,
        signal=ended.signal,
        argv=run.argv,
        boot_id=run.boot_id,
    )


def _shown(end: "End") -> dict[str, str]:
    """Return what is shown of an end beside what its document has."""
    from scopekeeper.cli.history import status
    from scopekeeper.scope.reason import Reason

    goes_on = end.reason is Reason.CONTINUED
    return {
        "state": Reason.CONTINUED.value if goes_on else ENDED,
        "status": status(end),
        "ago": "-" if goes_on else f"{coarse(max(time.time() - end.ended / 1e6, 0))} ago",
    }
