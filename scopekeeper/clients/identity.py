"""The session that a client names in the environment of what it starts.

On the hot path of a ``run`` with such a variable: builtin modules only.

A variable is inherited further than it is true: a gateway that was started from an agent's shell
has that agent's id, and so has a tmux server that a command founded. So the id counts only if the
process that starts the launch is the client, or descends from it within one session of the kernel
(setsid(2)) and with no other client between. Clients start their commands in sessions of their own;
the shell that runs such a command (``sh -c``) counts as the client. The client has not inherited
the id itself, either: what has set a variable for its children does not have it.

A background command can lose that descent: its shell ends, or it calls setsid(2). Its cgroup stays.
So if no client is found above it, the id counts inside a scope of that very session.

Names of processes prove nothing against a process that lies; it could as well lie in the variable.
"""

import posix

from scopekeeper.clients.table import TABLE
from scopekeeper.clients.variables import has_file, may_name
from scopekeeper.kernel.proc import cgroup_of, read, stat_of
from scopekeeper.kernel.proc import environment as environment_of
from scopekeeper.scope import names
from scopekeeper.scope.client import FURTHEST, SHELLS, file_name, lineage, script_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopekeeper.clients.format import Row
    from scopekeeper.kernel.proc import Stat

ID_MAX = 128
_COMM_MAX = 15


class Named:
    """What a client names; all texts are '' if none does."""

    __slots__ = ("ignored", "lane", "owner", "session")

    def __init__(
        self, session: str = "", lane: str = "", owner: str = "", ignored: str = ""
    ) -> None:
        self.session = session
        self.lane = lane
        self.owner = owner
        """The pid of the client, if that is the owner of what it starts."""
        self.ignored = ignored
        """The variable that does not count, a blank, and one of records.IGNORED."""


def of_launch(
    options: dict[str, str],
    environment: dict[bytes, bytes],
    starter: str,
    warnings: list[str],
    *,
    configured: bool,
    scope: str,
) -> Named:
    """Return the session of a launch for which neither an option nor our own variable names one.

    starter is the pid of the process that starts it, by default our parent. configured: whether
    there is a folder that may have a user's table. scope is the directory of the scope in which it
    is started, '' outside of every scope.
    """
    if not may_name(options, environment, configured=configured):
        return Named()
    table = _table(warnings) if configured else TABLE
    owner = options.get("owner") or environment.get(b"SCOPEKEEPER_OWNER", b"").decode("latin-1")
    return find(table, environment, owner or starter or str(posix.getppid()), scope)


def is_client(pid: str) -> bool:
    """Return whether a process is a client; False if it is gone or hidden."""
    try:
        stat = stat_of(pid)
        return stat is not None and _row_of(_table([]), pid, stat) is not None
    except OSError:
        return False


def client_within(path: str, starter: str, *, configured: bool) -> str:
    """Return the pid of the nearest client above a launch in the member at a path; '' without one.

    starter and configured are as in ``of_launch``. A client that is a member itself owns what it
    starts, as any other client does: its end is theirs.
    """
    pid = starter or str(posix.getppid())
    try:
        if not f"{cgroup_of(pid)}/".startswith(path + "/"):
            return ""
        table = _table([]) if configured else TABLE
        for each in lineage(pid, path):
            stat = stat_of(each)
            if stat is not None and _row_of(table, each, stat) is not None:
                return each
    except (OSError, LookupError):
        pass  # gone, or hidden from us
    return ""


def _table(warnings: list[str]) -> "Sequence[Row]":
    if not has_file():
        return TABLE
    from scopekeeper.clients.cached import table

    return table(warnings)


def find(
    table: "Sequence[Row]", environment: dict[bytes, bytes], starter: str, scope: str = ""
) -> Named:
    """Return the session of a launch; starter and scope are as in ``of_launch``."""
    said = [
        variable
        for row in table
        for variable in row[2]
        if environment.get(variable.encode())  # an empty one is not set
    ]
    if not said:
        return Named()
    row, pid = _client_above(table, starter)
    variable = next((each for each in row[2] if each in said), "") if row else ""
    if row is None and (inside := _of_scope(table, environment, scope)):
        return inside
    if row is None or not variable:
        return Named(ignored=f"{said[0]} inherited")
    value = environment[variable.encode()]
    if not all(environment.get(each.encode()) for each in row[3]):
        return Named(ignored=f"{variable} incomplete")
    if not is_id(value):
        return Named(ignored=f"{variable} invalid")
    if _has(pid, variable.encode() + b"=" + value):
        return Named(ignored=f"{variable} inherited")
    return Named(f"{row[4]}:{value.decode()}", row[5], pid if row[6] == "client" else "")


def _of_scope(table: "Sequence[Row]", environment: dict[bytes, bytes], scope: str) -> Named | None:
    """Return the session of the scope around a launch, if a client's variables name the same one.

    By the name of the scope, which no process in it can change.
    """
    unit = names.parse_unit(scope.rpartition("/")[2])
    if unit is None:
        return None
    session, _, _, is_whole = unit
    for row in table:
        for variable in row[2]:
            value = environment.get(variable.encode(), b"")
            if (
                is_whole
                and is_id(value)
                and session == f"{row[4]}:{value.decode()}"
                and all(environment.get(each.encode()) for each in row[3])
            ):
                return Named(session, row[5])
    return None


def _client_above(table: "Sequence[Row]", starter: str) -> "tuple[Row | None, str]":
    """Return the nearest client and its pid, from a process upwards: see the module docstring."""
    pid = starter if starter.isdigit() else ""
    try:
        stat = stat_of(pid)
        for _ in range(FURTHEST):
            if stat is None:
                break
            row = _row_of(table, pid, stat)
            if row is not None:
                return row, pid
            above = stat_of(stat.parent) if stat.parent else None
            if above is None:
                break
            if above.session != stat.session and not (pid == starter and _runs_command(pid, stat)):
                break
            pid, stat = str(stat.parent), above
    except OSError:
        pass  # hidden from us
    return None, ""


def _row_of(table: "Sequence[Row]", pid: str, stat: "Stat") -> "Row | None":
    """Return the client that a process is, None if it is none; raises OSError."""
    return row_of(table, stat.name, []) or row_of(
        table, "", read(f"/proc/{pid}/cmdline").split("\0")
    )


def row_of(table: "Sequence[Row]", short_name: str, arguments: "Sequence[str]") -> "Row | None":
    """Return the client with this short name or these arguments, None if it is none."""
    for row in table:
        for program in row[1]:
            if program[:_COMM_MAX] == short_name:
                return row
    if not arguments:
        return None
    name = script_of(arguments) or file_name(arguments[0])
    for row in table:
        if name in row[1]:
            return row
    return None


def _runs_command(pid: str, stat: "Stat") -> bool:
    """Return whether a process is a shell that runs one command in a session of its own."""
    return str(stat.session) == pid and runs_one_command(read(f"/proc/{pid}/cmdline").split("\0"))


def runs_one_command(arguments: "Sequence[str]") -> bool:
    """Return whether these are the arguments of a shell that runs one command: ``sh -c``."""
    if file_name(arguments[0]).lstrip("-") not in SHELLS:
        return False
    option = next((each for each in arguments[1:] if each[:2] != "--"), "")
    return option[:1] == "-" and "c" in option


def is_id(value: bytes) -> bool:
    """Return whether a value can be the id of a session."""
    if not 0 < len(value) <= ID_MAX or not value.isascii():
        return False
    for mark in (b"-", b"_", b"."):
        value = value.replace(mark, b"")
    return value.isalnum()


def _has(pid: str, entry: bytes) -> bool:
    """Return whether a process was executed with a variable; False if that is hidden."""
    try:
        return entry in environment_of(int(pid)).split(b"\0")
    except OSError:
        return False
