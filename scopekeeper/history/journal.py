"""Writes an entry to the journal for each end."""

from collections.abc import Iterable

from scopekeeper.history.end import End
from scopekeeper.scope.reason import Reason
from scopekeeper.systemd import journal

MESSAGE_ID = "a493c76d48b8453a91c628bb2fbe2f27"
"""In every entry about an end: ``journalctl MESSAGE_ID=…``."""


def send(ends: Iterable[End], path: str = journal.SOCKET) -> None:
    """Write one entry for each end; stop without an error if there is no journal or it hangs."""
    journal.send(map(entry, ends), path)


def entry(end: End) -> dict[str, str]:
    """Return the fields of an end's entry; no arguments, which others must not read."""
    return {
        "MESSAGE": _message(end),
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "scopekeeper",
        "SCOPEKEEPER_SESSION": end.session,
        "SCOPEKEEPER_LANE": end.lane,
        "SCOPEKEEPER_RUN": end.run,
        "SCOPEKEEPER_SCOPE": end.unit,
        "SCOPEKEEPER_MEMBER": end.leaf,
        "SCOPEKEEPER_REASON": end.reason.value,
    }


def _message(end: End) -> str:
    subject = f"{end.name} of {end.session}"
    if end.reason is Reason.CONTINUED:
        return f"{subject} went on {end.evidence}"
    text = f"{subject} ended: {end.reason.value}"
    return f"{text}: {end.evidence}" if end.evidence else text
