"""How many ends there were for each reason, beyond the bounds of the history's rows.

Rows are removed by age and number. A counter that went back then would look to Prometheus as if it
had begun anew. No new version of the file: older programs read and write such a file too, but do
not count what they write.
"""

import sqlite3
from collections.abc import Iterable

from scopekeeper.history import rows
from scopekeeper.scope.reason import Reason

_IS_THERE = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'totals'"
_TABLE = "CREATE TABLE totals (reason TEXT PRIMARY KEY, ends INTEGER NOT NULL)"
_OF_ROWS = "SELECT reason, count(*) FROM ends GROUP BY reason"
_ADD = (
    "INSERT INTO totals VALUES (CAST(? AS TEXT), 1) "
    "ON CONFLICT (reason) DO UPDATE SET ends = ends + 1"
)


def prepare(connection: sqlite3.Connection) -> None:
    """Begin with the ends that the file has, if nothing was counted so far; in a transaction."""
    if not _is_there(connection):
        connection.execute(_TABLE)
        connection.execute(f"INSERT INTO totals {_OF_ROWS}")


def add(connection: sqlite3.Connection, reasons: Iterable[Reason]) -> None:
    """Count one more end for each of these; in a transaction."""
    connection.executemany(_ADD, [(rows.to_text(each.value),) for each in reasons])


def read(connection: sqlite3.Connection) -> dict[Reason, int]:
    """Return the number of ends for each reason; raises ValueError for what we never write."""
    query = "SELECT reason, ends FROM totals" if _is_there(connection) else _OF_ROWS
    found = dict.fromkeys(Reason, 0)
    for reason, ends in connection.execute(query):
        if not (isinstance(reason, str) and isinstance(ends, int) and ends >= 0):
            raise ValueError(f"totals has {str(reason)[:40]!r}, {str(ends)[:40]!r}")
        found[Reason.of(reason)] += ends
    return found


def _is_there(connection: sqlite3.Connection) -> bool:
    (count,) = connection.execute(_IS_THERE).fetchone()
    return bool(count)
