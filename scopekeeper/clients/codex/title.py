"""The titles of Codex: in ``~/.codex/session_index.jsonl``, else the first prompt.

The index has a line for each name that a session was given. The prompts are in
``~/.codex/sessions/YEAR/MONTH/DAY/rollout-TIME-ID.jsonl``; the local day is not in the id, but the
time is: an id is a UUID of version 7 (RFC 9562), and begins with milliseconds since the epoch.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from scopekeeper.clients.session_files import (
    Files,
    Line,
    Named,
    Store,
    listed,
    of_this_session,
    texts_of,
)

_MARKUP = ("<", "# AGENTS.md instructions")
"""How texts begin that the client writes as the user."""
_UUID, _VERSION_AT, _MILLISECONDS = 36, 14, 12
_DAYS = (0, -1, 1)
"""Days around the one in UTC that can be the local one."""


def _index(folder: str, _id: str, _directories: list[str]) -> Iterator[str]:
    yield f"{folder}/session_index.jsonl"


def _rollouts(folder: str, session_id: str, _directories: list[str]) -> Iterator[str]:
    for made in _dates_of(session_id):
        day = f"{folder}/sessions/{made:%Y/%m/%d}"
        for name in listed(day):
            if name.startswith("rollout-") and name.endswith(f"-{session_id}.jsonl"):
                yield f"{day}/{name}"


def _dates_of(session_id: str) -> list[date]:
    """Return the days on which a UUID of version 7 can have been made; none for another id."""
    if len(session_id) != _UUID or session_id[_VERSION_AT] != "7":
        return []
    try:
        seconds = int(session_id.replace("-", "")[:_MILLISECONDS], 16) // 1000
        made = datetime.fromtimestamp(seconds, UTC).date()
        return [made + timedelta(days) for days in _DAYS]
    except (ValueError, OverflowError, OSError):
        return []


def _prompt(line: Line) -> str:
    content = line.get("payload")
    if not isinstance(content, dict):
        return ""
    if line.get("type") == "event_msg" and content.get("type") == "user_message":
        texts = texts_of(content.get("message"), "")
    elif line.get("type") == "response_item" and content.get("role") == "user":
        texts = texts_of(content.get("content"), "input_text")
    else:
        return ""
    return next((each for each in texts if not each.lstrip().startswith(_MARKUP)), "")


STORE = Store(
    variable="CODEX_HOME",
    folder=".codex",
    files=(
        Files(_index, named=(Named("thread_name", (of_this_session("id"),)),)),
        Files(_rollouts, named=(), prompt_mark="payload", prompt=_prompt),
    ),
)
