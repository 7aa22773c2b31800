"""The sizes of scratch folders, which become known when these are removed.

That may be before or after the end of the member is written. So a size waits in a table of its own
until the row of its member is there.
"""

import sqlite3
import time
from collections.abc import Sequence

Noted = tuple[str, str, int]
"""The unit and the id of a member, and the bytes that its scratch folder had."""

_TABLE = (
    "CREATE TABLE IF NOT EXISTS scratch (unit TEXT NOT NULL, member_id TEXT NOT NULL, "
    "bytes INTEGER NOT NULL, noted INTEGER NOT NULL, PRIMARY KEY (unit, member_id))"
)
_OLDEST = 86_400_000_000
"""Microseconds after which a size without an end is dropped."""
_MOST = 10_000
_ITS_ROW = "FROM scratch WHERE scratch.unit = ends.unit AND scratch.member_id = ends.member_id"


def note(connection: sqlite3.Connection, sizes: Sequence[Noted]) -> None:
    """Note sizes, in a transaction."""
    connection.execute(_TABLE)
    now = time.time_ns() // 1000
    for unit, member_id, size in sizes:
        values = unit.encode("utf-8", "surrogatepass"), member_id.encode(), size, now
        connection.execute(
            "INSERT OR REPLACE INTO scratch VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)", values
        )


def fill(connection: sqlite3.Connection) -> None:
    """Move the noted sizes to the rows of their members, and drop those that are left over."""
    if not connection.execute("SELECT 1 FROM scratch LIMIT 1").fetchone():
        return
    connection.execute(
        f"UPDATE ends SET scratch_bytes = (SELECT bytes {_ITS_ROW}) "  # noqa: S608
        "WHERE (unit, member_id) IN (SELECT unit, member_id FROM scratch)"
    )
    connection.execute(
        "DELETE FROM scratch WHERE (unit, member_id) IN (SELECT unit, member_id FROM ends) "
        "OR noted < ? OR rowid NOT IN (SELECT rowid FROM scratch ORDER BY noted DESC LIMIT ?)",
        (time.time_ns() // 1000 - _OLDEST, _MOST),
    )
