"""Limits of the history: by age, by rows, and for each scope.

A process in a scope can make any number of members there. It fills only its scope's share, and
drives out only rows of its own scope.
"""

import sqlite3
import time
from collections.abc import Collection

from scopekeeper.data import dataclass

INDEXES = (  # no new version of the file: older programs keep working with them
    "CREATE INDEX IF NOT EXISTS ends_unit ON ends (unit, ended)",
    "CREATE INDEX IF NOT EXISTS living_unit ON living (unit)",
)
_MINUTE = 60_000_000
_AGED_AT_ONCE = 20
"""Rows that one write removes for their age: a clock that is wrong for a moment costs no more."""
_UNIT = "unit = CAST(? AS TEXT)"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits; unit names are UTF-8."""

    rows: int = 10_000
    age: int = 90 * 86_400_000_000
    """Microseconds since an end."""
    scope_rows: int = 2_500
    """Rows of one scope."""
    per_minute: int = 1_000
    """Rows of one scope with ends within a minute."""

    def has_room(self, connection: sqlite3.Connection, unit: bytes, ended: int) -> bool:
        """Return whether there is room for another end of a scope at that time."""
        recent = f"SELECT count(*) FROM ends WHERE {_UNIT} AND ended > ?"  # noqa: S608
        (count,) = connection.execute(recent, (unit, ended - _MINUTE)).fetchone()
        return int(count) < self.per_minute

    def has_room_to_live(self, connection: sqlite3.Connection, unit: bytes) -> bool:
        """Return whether there is room for another living member of a scope."""
        living = f"SELECT count(*) FROM living WHERE {_UNIT}"  # noqa: S608
        (count,) = connection.execute(living, (unit,)).fetchone()
        return int(count) < self.scope_rows

    def prune(self, connection: sqlite3.Connection, units: Collection[bytes]) -> None:
        """Remove rows beyond the limits, the oldest first; also for each of these scopes."""
        oldest = time.time_ns() // 1000 - self.age
        connection.execute(
            "DELETE FROM ends WHERE row IN (SELECT row FROM ends WHERE ended < ? LIMIT ?)",
            (oldest, _AGED_AT_ONCE),
        )
        of_scope = (
            f"DELETE FROM ends WHERE row IN (SELECT row FROM ends WHERE {_UNIT} "  # noqa: S608
            "ORDER BY ended DESC, row DESC LIMIT -1 OFFSET ?)"
        )
        for unit in units:
            connection.execute(of_scope, (unit, self.scope_rows))
        (count,) = connection.execute("SELECT count(*) FROM ends").fetchone()
        connection.execute(
            "DELETE FROM ends WHERE row IN (SELECT row FROM ends ORDER BY row LIMIT ?)",
            (max(0, count - self.rows),),
        )


BOUNDS = Bounds()
