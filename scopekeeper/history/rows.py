"""The columns of the history; converts ends to rows and back. Pure."""

import json
import sqlite3
from collections.abc import Sequence

from scopekeeper.data import replace
from scopekeeper.history.end import End
from scopekeeper.scope.reason import Cause, Reason, Stopper

COLUMNS = {
    "member_id": "TEXT NOT NULL", "started": "INTEGER NOT NULL", "ended": "INTEGER NOT NULL",
    "session": "TEXT NOT NULL", "lane": "TEXT NOT NULL", "name": "TEXT NOT NULL",
    "reason": "TEXT NOT NULL", "evidence": "TEXT NOT NULL", "session_id": "TEXT NOT NULL",
    "run": "TEXT NOT NULL", "kind": "TEXT NOT NULL", "lifetime": "TEXT NOT NULL",
    "unit": "TEXT NOT NULL", "pid": "INTEGER", "argv": "TEXT NOT NULL", "owner": "TEXT NOT NULL",
    "boot_id": "TEXT NOT NULL", "exit_status": "INTEGER", "signal": "INTEGER",
    "memory_peak": "INTEGER", "cpu_usec": "INTEGER", "oom_kills": "INTEGER",
    "processes": "INTEGER", "killed": "INTEGER NOT NULL", "seen": "INTEGER NOT NULL",
    "stopper_pid": "INTEGER", "stopper_uid": "INTEGER", "stopper_command": "TEXT",
    "label": "TEXT NOT NULL DEFAULT ''", "scratch_bytes": "INTEGER",
}  # fmt: skip
NAMES = ", ".join(COLUMNS)
ADDED = {"label": "''", "scratch_bytes": "NULL"}
"""Columns that tables of earlier versions lack, with what is read in place of them.

Those versions read and write such a table too.
"""
TABLE = (
    "(row INTEGER PRIMARY KEY, "
    + "".join(f"{name} {kind}, " for name, kind in COLUMNS.items())
    + "UNIQUE (member_id, started))"
)
# Text is bound as bytes: names and arguments can have bytes that are not UTF-8.
VALUES = (
    f"({NAMES}) VALUES ("  # names of our own
    + ", ".join("CAST(? AS TEXT)" if "TEXT" in kind else "?" for kind in COLUMNS.values())
    + ")"
)


def add_columns(connection: sqlite3.Connection, tables: Sequence[str]) -> None:
    """Add the columns that tables lack; call it in a transaction."""
    for table in tables:
        for name in _missing(connection, table):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {COLUMNS[name]}")


def source(connection: sqlite3.Connection, table: str) -> str:
    """Return what to read from: the table, with the columns that it lacks empty."""
    added = "".join(f", {ADDED[name]} AS {name}" for name in _missing(connection, table))
    return f"(SELECT *{added} FROM {table})" if added else table  # noqa: S608


def _missing(connection: sqlite3.Connection, table: str) -> list[str]:
    there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    return [name for name in ADDED if name not in there]


def to_row(end: End) -> list[bytes | int | None]:
    """Return the values of an end in the order of COLUMNS."""
    values = {name: getattr(end, name, None) for name in COLUMNS}
    values["reason"] = end.reason.value
    values["argv"] = json.dumps(end.argv)
    if end.stopper is not None:
        values |= {
            "stopper_pid": end.stopper.pid,
            "stopper_uid": end.stopper.uid,
            "stopper_command": end.stopper.command,
        }
    return [_value(each) for each in values.values()]


def from_row(row: Sequence[str | int | None]) -> End:
    """Read a row; raises ValueError if it has values that we never write.

    SQLite accepts a value of any type in any column.
    """
    values = dict(zip(COLUMNS, row, strict=True))
    for name, kind in COLUMNS.items():
        wanted = str if kind.startswith("TEXT") else int
        missing = values[name] is None and "NOT NULL" not in kind
        if not missing and not isinstance(values[name], wanted):
            raise ValueError(f"{name} is {str(values[name])[:40]!r}")
    stopper = [values.pop(f"stopper_{name}") for name in ("pid", "uid", "command")]
    values["reason"] = Reason.of(str(values["reason"]))  # type: ignore[assignment]
    values["argv"] = _words(str(values["argv"]))  # type: ignore[assignment]
    values["seen"] = bool(values["seen"])
    if stopper[0] is not None:
        values["stopper"] = Stopper(*stopper)  # type: ignore[arg-type, assignment]
    return _put_right(End(**values))  # type: ignore[arg-type]


def _put_right(end: End) -> End:
    """Correct what earlier versions wrote.

    Their evidence of a cause ends with how the member's command ended, as if that were the owner's
    end: ``process 7 has ended (exit status 0)``. They counted processes before a stop began, and
    the killed ones when its grace was over.
    """
    from scopekeeper.kernel import exit_status  # slow, and few rows are read

    how = exit_status.words(end.exit_status, end.signal)
    has_note = end.reason is Reason.STOPPED and end.evidence != f"{_asked(end)} ({how})"
    if how and end.reason not in (Reason.EXITED, Reason.SIGNALLED) and not has_note:
        end = replace(end, evidence=end.evidence.removesuffix(f" ({how})"))
    if end.processes is not None and end.killed > end.processes:
        end = replace(end, processes=end.killed)
    return end


def _asked(end: End) -> str:
    """Return the evidence of a stop to which no note was given."""
    return Cause(Reason.STOPPED, "", end.stopper).evidence


def _words(text: str) -> tuple[str, ...]:
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError(f"argv is {text[:40]!r}")
    return tuple(found)


def _value(value: str | int | None) -> bytes | int | None:
    if isinstance(value, str):
        return to_text(value)
    return None if value is None else to_integer(value)


def to_integer(value: int) -> int:
    """Clamp a number to SQLite's range; a member can write any number into its record."""
    return max(-(2**63), min(value, 2**63 - 1))


def to_text(text: str) -> bytes:
    """Encode a text for the file."""
    return text.encode("utf-8", "surrogatepass")


def from_text(raw: bytes) -> str:
    """Decode a text from the file."""
    return raw.decode("utf-8", "surrogatepass")
