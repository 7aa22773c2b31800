"""Where the keeper's messages go: to stderr, or to the journal if long names have a short form."""

import logging
import sys

from scopekeeper.safe_text import safe
from scopekeeper.scope import names
from scopekeeper.short_names import short, shortened
from scopekeeper.systemd import journal

_PRIORITIES = {logging.ERROR: "3", logging.WARNING: "4", logging.INFO: "6"}
_KINDS = ("session", "lane", "run", "scope", "member")


def named(**known: str) -> dict[str, dict[str, str]]:
    """Return the ``extra`` of a message that has these names: session, lane, run, scope, member."""
    return {"names": known}


def handler() -> logging.Handler:
    """Return the handler of all messages of a keeper."""
    made = _Journal() if journal.is_at(sys.stderr.fileno()) else logging.StreamHandler()
    made.setFormatter(_OneLine("%(message)s"))
    return made


class _OneLine(logging.Formatter):
    """Makes each message one line of the journal, whatever names it contains."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the message, which may be followed by a traceback."""
        return safe(super().formatMessage(record))


class _Journal(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes lines to stderr, and those with long names as entries with fields for the names.

    journald finds the unit of an entry by the process that sent it, which may just have ended; of a
    line on stderr it always knows it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        entry = entry_of(self.format(record), getattr(record, "names", {}), record.levelno)
        if entry is None or not journal.send([entry]):
            super().emit(record)


def entry_of(text: str, known: dict[str, str], level: int) -> dict[str, str] | None:
    """Return the fields of the entry for a message; None if no name in it is long."""
    directory, colon, rest = text.partition(": ")
    unit = names.unit_of(directory) if directory.startswith("/") else ""
    message = text
    if colon and unit:  # the directory of a scope, or of a leaf in it
        message = f"{'/'.join(map(short, directory[directory.index(unit) :].split('/')))}: {rest}"
        scope = names.parse_unit(unit)
        if scope is not None and scope[3]:
            known = dict(zip(_KINDS, scope[:3], strict=False)) | known
        known = known | {"scope": unit}
    message = shortened(message, list(map(safe, known.values())))
    if message == text:
        return None
    fields = {f"SCOPEKEEPER_{kind.upper()}": known.get(kind, "") for kind in _KINDS}
    return {
        "MESSAGE": message,
        "SCOPEKEEPER_TEXT": text,
        "PRIORITY": _PRIORITIES.get(level, "6"),
        "SYSLOG_IDENTIFIER": "scopekeeper",
        **fields,
    }
