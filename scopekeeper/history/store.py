"""The history's file: SQLite, one row for each ended member, bounded by age and rows.

A second table has the members that a keeper knows to live. So a member that ends while nobody
watches, even with the whole machine, is noticed later.

A writer locks ``history.lock``: one at a time makes the file, or moves a damaged one aside. Readers
take no lock and write nothing. A writer that is killed leaves the file as it was before or after
the current step, thanks to SQLite's write-ahead log.
"""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from scopekeeper import regular_files
from scopekeeper.errors import HistoryError
from scopekeeper.history import bounds, rows, scratch, totals
from scopekeeper.history.bounds import BOUNDS, Bounds
from scopekeeper.history.end import End, merged
from scopekeeper.scope import names
from scopekeeper.scope.reason import Reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _Result = TypeVar("_Result")

FILE = "history.db"
DAMAGED = "history.damaged"
_LOCK = "history.lock"
VERSION = 2

PATIENCE = 1.0
"""Seconds to wait for another writer; a stop must not hang because of the history."""

_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS ends {rows.TABLE}",
    "CREATE INDEX IF NOT EXISTS ends_ended ON ends (ended)",  # and for the other filters
    f"CREATE TABLE IF NOT EXISTS living {rows.TABLE}",
)
_ABOUT = ("session", "label", "session_id", "run", "member_id", "name", "unit", "unit")
"""What a word names; the last is a unit without its suffix."""
_TABLES = ("ends", "living")
_SELECT = f"SELECT {rows.NAMES} FROM "  # noqa: S608
_THIS = "WHERE member_id = CAST(? AS TEXT) AND started = ?"
_THIS_LEAF = "WHERE unit = CAST(? AS TEXT) AND member_id = CAST(? AS TEXT)"

_WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_BUSY: "another process keeps it locked",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
}
_OPEN = os.O_RDWR | os.O_CREAT
_MOST = 1 << 30
"""Largest file of SQLite's in bytes; ours have a few MiB."""
_BESIDE = ("", "-wal", "-shm")
"""Suffixes of the files that SQLite opens by name."""
_NOT_WRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)
_ROOM = 65536
"""Bytes that SQLite needs beside its file to write at all."""


class _DamagedError(Exception):
    """The file is not a database, or SQLite calls it malformed."""


def _go_on(_step: str) -> None:
    pass


class HistoryStore:
    """The history in one folder.

    step is called with the name of each step of a write before the step; tests kill the process
    there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limits: Bounds = BOUNDS,
        step: Callable[[str], None] = _go_on,
    ) -> None:
        self.path = folder / FILE
        self._bounds = limits
        self._step = step

    def write(
        self, ends: Sequence[End], began: Sequence[End] = (), sizes: Sequence[scratch.Noted] = ()
    ) -> tuple[list[End], str]:
        """Write all or nothing; return the new ends, and a note if a damaged file was moved.

        began are living members, each as the end to record if the real one is missed; sizes are
        those of scratch folders. Raises HistoryError, OSError.
        """
        with self._locked():
            try:
                return self._write(ends, began, sizes), ""
            except _DamagedError as error:
                aside = self._move_aside()
                problem = (
                    f"the history was damaged ({error}); it is now {aside}, and a new one began"
                )
            try:
                return self._write(ends, began, sizes), problem
            except _DamagedError as error:
                raise HistoryError(f"{self.path}: {error}") from None

    def read(
        self,
        *,
        about: str | None = None,
        session: str | None = None,
        equal: Mapping[str, str] = MappingProxyType({}),
        since: int | None = None,
        reasons: Sequence[Reason] = (),
        limit: int | None = None,
    ) -> list[End]:
        """Return ends, the oldest first; with a limit, the newest of them.

        about is a session, its label or its id, a run, a scope's unit, a member's id or name; equal
        has the wanted texts of fields of ``End``. A session is also found by its label. Raises
        HistoryError.
        """
        wanted: list[tuple[str, list[bytes | int]]] = []
        if about is not None:
            values = [about] * (len(_ABOUT) - 1) + [about + names.SUFFIX]
            wanted.append(_either(_ABOUT, values))
        given = [*equal.items(), *([] if session is None else [("session", session)])]
        for field, value in given:
            fields = ("session", "label") if field == "session" and value else (field,)
            wanted.append(_either(fields, [value] * len(fields)))
        if since is not None:
            wanted.append(("ended >= ?", [since]))
        if reasons:
            marks = ", ".join("CAST(? AS TEXT)" for _ in reasons)
            wanted.append((f"reason IN ({marks})", [rows.to_text(each.value) for each in reasons]))
        where = " WHERE " + " AND ".join(text for text, _ in wanted) if wanted else ""
        bound = [value for _, some in wanted for value in some]
        rest = f"{where} ORDER BY ended DESC, started DESC, row DESC LIMIT ?"
        return self._query("ends", rest, (*bound, -1 if limit is None else limit))[::-1]

    def find(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], End]:
        """Return the ends of members by member id and start; raises HistoryError."""
        bound = [(rows.to_text(member_id), rows.to_integer(started)) for member_id, started in keys]
        found = self._query("ends", f" {_THIS}", *bound)
        return {(end.member_id, end.started): end for end in found}

    def living(self) -> list[End]:
        """Return the members that began and have no recorded end; raises HistoryError."""
        return self._query("living", "", (), known_since=2)

    def remove_if_empty(self) -> None:
        """Remove the history's files if nothing is recorded; raises HistoryError, OSError.

        No keeper may run: it has the files open.
        """
        if not self.path.exists():
            return
        with self._locked():
            if not (self.living() or self.read(limit=1)):
                for suffix in _BESIDE:
                    self.path.with_name(FILE + suffix).unlink(missing_ok=True)
                self.path.with_name(_LOCK).unlink(missing_ok=True)

    def totals(self) -> dict[Reason, int]:
        """Return how many ends were ever recorded, by reason; raises HistoryError.

        An end whose reason becomes known later counts for both: as unknown, and for that reason.
        """
        return self._read(
            lambda connection: totals.read(connection) if _check_version(connection) else {}, {}
        ) or dict.fromkeys(Reason, 0)

    def _query(
        self, table: str, rest: str, *values: Sequence[bytes | int], known_since: int = 1
    ) -> list[End]:
        """Return rows of a table; rest ends the query, executed with each of these values."""

        def found(connection: sqlite3.Connection) -> list[End]:
            if _check_version(connection) < known_since:
                return []  # the file is just being made, or is older than the table
            query = f"{_SELECT}{rows.source(connection, table)}{rest}"
            return [
                rows.from_row(row) for each in values for row in connection.execute(query, each)
            ]

        return self._read(found, [])

    def _read(
        self, work: "Callable[[sqlite3.Connection], _Result]", nothing: "_Result"
    ) -> "_Result":
        """Return the result of work with the file, or nothing if there is none yet."""
        problem = self._problem()
        if problem:
            raise HistoryError(f"the history cannot be read: {problem}", self._remedy)
        if not self.path.exists():
            return nothing
        try:
            with contextlib.closing(self._connect("mode=ro")) as connection:
                return work(connection)
        except sqlite3.OperationalError as error:
            if _code(error) not in _NOT_WRITABLE:
                raise self._unreadable(error) from None
        except (sqlite3.Error, ValueError) as error:
            raise self._unreadable(error) from None
        try:  # on a read-only file system SQLite needs a promise that nobody writes
            with contextlib.closing(self._connect("immutable=1")) as connection:
                return work(connection)
        except (sqlite3.Error, ValueError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> HistoryError:
        if isinstance(self._failure(error), HistoryError):
            return HistoryError(f"the history cannot be read: {self.path}: {error}")
        return HistoryError(f"the history is damaged: {self.path}: {error}", self._remedy)

    @property
    def _remedy(self) -> str:
        return f"move it away, a new one begins: mv {self.path} {self.path.with_name(DAMAGED)}"

    def _problem(self) -> str:
        """Return which file that SQLite opens by name is unfit, and why; '' if all are fit.

        SQLite would wait forever on a FIFO. Only this user can exchange a file after the check.
        """
        for suffix in _BESIDE:
            problem = regular_files.problem_of(f"{self.path}{suffix}", _MOST)
            if problem:
                return f"{self.path}{suffix}: {problem}"
        return ""

    def _connect(self, how: str = "mode=rw") -> sqlite3.Connection:
        path = str(self.path)
        for char in "%?#":
            path = path.replace(char, f"%{ord(char):02x}")
        connection = sqlite3.connect(
            f"file:{path}?{how}", uri=True, timeout=PATIENCE, isolation_level=None
        )
        connection.text_factory = rows.from_text
        return connection

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.path.with_name(_LOCK)
        try:
            fd = regular_files.open_regular(path, _OPEN)
        except OSError as error:
            raise HistoryError(f"{path}: {error.strerror}") from None
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise HistoryError(f"{self.path}: {_WORDS[sqlite3.SQLITE_BUSY]}") from None
                time.sleep(0.002)
            yield
        finally:
            os.close(fd)

    def _write(
        self, ends: Sequence[End], began: Sequence[End], sizes: Sequence[scratch.Noted]
    ) -> list[End]:
        self._step("open")
        problem = self._problem()
        if problem:
            raise HistoryError(problem, self._remedy)
        # SQLite would make it readable by everybody
        os.close(regular_files.open_regular(self.path, _OPEN))
        try:
            with contextlib.closing(self._connect()) as connection:
                return self._transaction(connection, ends, began, sizes)
        except (sqlite3.Error, ValueError) as error:
            raise self._failure(error) from error

    def _transaction(
        self, connection: sqlite3.Connection, ends: Sequence[End], began: Sequence[End],
        sizes: Sequence[scratch.Noted],
    ) -> list[End]:  # fmt: skip
        self._step("prepare")
        connection.execute("PRAGMA journal_mode = WAL")
        # a crash of the machine can lose the last ends but damages nothing
        connection.execute("PRAGMA synchronous = NORMAL")
        self._step("begin")
        connection.execute("BEGIN IMMEDIATE")
        if _check_version(connection) < VERSION:
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        rows.add_columns(connection, _TABLES)
        totals.prepare(connection)
        for statement in bounds.INDEXES:
            connection.execute(statement)
        self._step("insert")
        for end in began:
            self._keep_living(connection, end)
        scratch.note(connection, sizes)
        news = [end for end in ends if self._keep(connection, end)]
        scratch.fill(connection)
        totals.add(connection, [end.reason for end in news])
        self._step("prune")
        self._bounds.prune(connection, {rows.to_text(end.unit) for end in ends})
        self._step("commit")
        connection.execute("COMMIT")
        self._step("close")
        return news

    def _keep_living(self, connection: sqlite3.Connection, end: End) -> None:
        """Note a living member: one row for each leaf, up to the scope's limit."""
        unit = rows.to_text(end.unit)
        connection.execute(f"DELETE FROM living {_THIS_LEAF}", (unit, rows.to_text(end.member_id)))  # noqa: S608
        if self._bounds.has_room_to_live(connection, unit):
            connection.execute(f"INSERT OR IGNORE INTO living {rows.VALUES}", rows.to_row(end))

    def _keep(self, connection: sqlite3.Connection, end: End) -> bool:
        """Merge one end into the file; return whether its reason is new.

        Skip it if its scope has had too many ends within a minute, or if the row of that key is of
        another scope: a member can choose its own id and time.
        """
        key = (rows.to_text(end.member_id), rows.to_integer(end.started))
        connection.execute(f"DELETE FROM living {_THIS_LEAF}", (rows.to_text(end.unit), key[0]))  # noqa: S608
        row = connection.execute(f"{_SELECT}ends {_THIS}", key).fetchone()
        if row is None:
            if not self._bounds.has_room(connection, rows.to_text(end.unit), end.ended):
                return False
            connection.execute(f"INSERT INTO ends {rows.VALUES}", rows.to_row(end))
            return True
        known = rows.from_row(row)
        if known.unit and end.unit and known.unit != end.unit:
            return False
        best = merged(known, end)
        if best != known:
            connection.execute(f"INSERT OR REPLACE INTO ends {rows.VALUES}", rows.to_row(best))
        return best.reason is not known.reason

    def _failure(self, error: Exception) -> Exception:
        code = _code(error)
        if isinstance(error, ValueError) or code in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        ):
            return _DamagedError(error)
        if code == sqlite3.SQLITE_IOERR and self._is_full():
            code = sqlite3.SQLITE_FULL
        return HistoryError(f"{self.path}: {_WORDS.get(code, str(error))}")

    def _is_full(self) -> bool:
        try:
            disk = os.statvfs(self.path.parent)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize < _ROOM

    def _move_aside(self) -> Path:
        """Move a damaged file aside for inspection, over an earlier one.

        The log moves first: SQLite would apply it to a new file.
        """
        aside = self.path.with_name(DAMAGED)
        for suffix in reversed(_BESIDE):
            self._step(f"move{suffix}")
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
        return aside


def _either(fields: Sequence[str], values: Sequence[str]) -> tuple[str, list[bytes | int]]:
    """Return the condition that one of these fields has its value, and what to bind."""
    either = " OR ".join(f"{field} = CAST(? AS TEXT)" for field in fields)
    return f"({either})", [rows.to_text(value) for value in values]


def _code(error: Exception) -> int:
    """Return SQLite's primary result code, 0 for another error."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _check_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise HistoryError(
            f"the history has version {version}, this program knows {VERSION}",
            "use the newer scopekeeper",
        )
    return int(version)
