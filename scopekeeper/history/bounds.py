"""How much of the history is kept: by age, by rows, and of any one scope.

What lives in a scope can make members there, as many as it likes. It fills its own share, and
drives out its own rows, not what is known of others.
"""

import sqlite3
import time
from collections.abc import Collection
from dataclasses import dataclass

INDEXES = (  # without a new version of the file: an older program goes on with them
    "CREATE INDEX IF NOT EXISTS ends_unit ON ends (unit, ended)",
    "CREATE INDEX IF NOT EXISTS living_unit ON living (unit)",
)
_MINUTE = 60_000_000
_UNIT = "unit = CAST(? AS TEXT)"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that is kept; units are given as UTF-8."""

    rows: int = 10_000
    age: int = 90 * 86_400_000_000
    """Microseconds since an end."""
    scope_rows: int = 2_500
    """Rows of one scope."""
    per_minute: int = 1_000
    """Rows of one scope that ended within a minute."""

    def has_room(self, connection: sqlite3.Connection, unit: bytes, ended: int) -> bool:
        """Return whether one more end of a scope is kept, which came at that time."""
        recent = f"SELECT count(*) FROM ends WHERE {_UNIT} AND ended > ?"  # noqa: S608
        (count,) = connection.execute(recent, (unit, ended - _MINUTE)).fetchone()
        return int(count) < self.per_minute

    def has_room_to_live(self, connection: sqlite3.Connection, unit: bytes) -> bool:
        """Return whether one more living member of a scope is kept."""
        living = f"SELECT count(*) FROM living WHERE {_UNIT}"  # noqa: S608
        (count,) = connection.execute(living, (unit,)).fetchone()
        return int(count) < self.scope_rows

    def prune(self, connection: sqlite3.Connection, units: Collection[bytes]) -> None:
        """Remove what is too old or too much; of each of the scopes its own oldest."""
        oldest = time.time_ns() // 1000 - self.age
        connection.execute("DELETE FROM ends WHERE ended < ?", (oldest,))
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
