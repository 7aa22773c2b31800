"""Tells the journal of each end, in its native protocol.

A plain socket: pystemd's journal goes through sd_journal_sendv(3), which may wait for as long as
a journal hangs, and takes 20 ms to import. See systemd's JOURNAL_NATIVE_PROTOCOL.
"""

import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping

from scopekeeper.history.end import End

MESSAGE_ID = "a493c76d48b8453a91c628bb2fbe2f27"
"""Of every entry about an end: ``journalctl MESSAGE_ID=…``."""
SOCKET = "/run/systemd/journal/socket"
_PATIENCE = 0.1
_LONGEST = 2048
"""Characters of one field; a datagram has to fit."""


def send(ends: Iterable[End], path: str = SOCKET) -> None:
    """Write one entry for each end; nothing where there is no journal, or where it hangs."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal,
    ):
        journal.settimeout(_PATIENCE)
        journal.connect(path)
        for end in ends:
            journal.send(datagram(entry(end)))


def entry(end: End) -> dict[str, str]:
    """Return the fields of an end's entry; no arguments, which others may not read."""
    message = f"{end.name} of {end.session} ended: {end.reason.value}"
    return {
        "MESSAGE": f"{message}: {end.evidence}" if end.evidence else message,
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


def datagram(fields: Mapping[str, str]) -> bytes:
    """Write the fields that are not empty; one with a line break goes with its length."""
    parts = []
    for name, text in fields.items():
        value = text[:_LONGEST].encode("utf-8", "surrogatepass")
        if b"\n" in value:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
        elif value:
            parts.append(name.encode() + b"=" + value + b"\n")
    return b"".join(parts)
