"""Writes an entry to the journal for each end."""

import re
from collections.abc import Iterable

from scopekeeper.history.end import End
from scopekeeper.safe_text import safe
from scopekeeper.scope.reason import Reason
from scopekeeper.short_names import shortened
from scopekeeper.systemd import journal

MESSAGE_ID = "a493c76d48b8453a91c628bb2fbe2f27"
"""In every entry about an end: ``journalctl MESSAGE_ID=…``."""
_MEMBER = re.compile(r"(?<!\S)(\S+) \((m-\S+) in (\S+), lane ([^\s,)]+)(?:, run ([^\s,)]+))?\)")


def send(ends: Iterable[End], path: str = journal.SOCKET) -> None:
    """Write one entry for each end; stop without an error if there is no journal or it hangs."""
    journal.send(map(entry, ends), path)


def entry(end: End) -> dict[str, str]:
    """Return the fields of an end's entry; no arguments, which others must not read.

    Long names are short in MESSAGE; the other fields have them in full. Both texts for people are
    printable: of a message with other bytes, journalctl shows only how long it is.
    """
    text, message = sentences(end)
    counts = {"SCOPEKEEPER_PROCESSES": str(end.processes), "SCOPEKEEPER_KILLED": str(end.killed)}
    return {
        "MESSAGE": message,
        "SCOPEKEEPER_TEXT": text if text != message else "",
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "scopekeeper",
        "SCOPEKEEPER_SESSION": end.session,
        "SCOPEKEEPER_LABEL": end.label,
        "SCOPEKEEPER_LANE": end.lane,
        "SCOPEKEEPER_RUN": end.run,
        "SCOPEKEEPER_SCOPE": end.unit,
        "SCOPEKEEPER_MEMBER": end.leaf,
        "SCOPEKEEPER_REASON": end.reason.value,
        **(counts if end.processes is not None else {}),
    }


def sentences(end: End) -> tuple[str, str]:
    """Return the sentence about an end, printable, with all names in full, and with short ones."""
    text = safe(_message(end))
    names = (*_names(end), *_named_in(end.evidence))
    return text, shortened(text, [safe(each) for each in names])


def _names(end: End) -> tuple[str, ...]:
    return end.name, end.session, end.label, end.lane, end.run, end.unit, end.leaf, end.owner


def _named_in(evidence: str) -> list[str]:
    """Return the names of another member that evidence names, as ``scope.launched.words`` does."""
    return [name for found in _MEMBER.findall(evidence) for name in found]


def _message(end: End) -> str:
    subject = f"{end.name} of {end.shown_session}"
    if end.reason is Reason.CONTINUED:
        return f"{subject} went on {end.evidence}"
    text = f"{subject} ended: {end.reason.value}"
    return f"{text}: {end.evidence}" if end.evidence else text
