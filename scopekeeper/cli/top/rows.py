"""The columns of ``top``, and its rows: a scope, a member, or all scopes of a session. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from scopekeeper.cli.cells import Cell, Unit, duration, number, size, text
from scopekeeper.cli.colour import Paint
from scopekeeper.cli.list_view import Row
from scopekeeper.cli.ls_rows import STATE_PAINTS, counted, owners
from scopekeeper.cli.owner_title import owner_title
from scopekeeper.cli.table import Column, Fit, Table, lay_out, width_of
from scopekeeper.cli.users import user
from scopekeeper.quantities import show_bytes
from scopekeeper.scope.model import Member, Scope
from scopekeeper.scope.selection import STATES

MIXED = "mixed"
"""The state of a folded session whose scopes have several."""
NO_ANSWER = "no answer"
ASKING, NO_SCOPES = "asking", "no scopes"
"""States of the one row of a host that has no others."""
COLUMNS = (
    Column("HOST", Fit.MIDDLE, 8, extra=True),
    Column("USER", extra=True),
    Column("SESSION", Fit.MIDDLE, 18),
    Column("LANE", Fit.MIDDLE, 4, need=8),
    Column("RUN", Fit.MIDDLE, 8, need=9),
    Column("MEMBER", Fit.MIDDLE, 8, extra=True),
    Column("KIND", need=11),
    Column(
        "STATE",
        paints={**STATE_PAINTS, NO_ANSWER: Paint.RED},
        values=(*STATES, "exited", MIXED, NO_ANSWER, ASKING, NO_SCOPES),
    ),
    Column("CPU%", right=True, unit=Unit.NUMBER),
    Column("MEMORY", need=2, right=True, unit=Unit.SIZE),
    Column("LIMIT", need=10, right=True, unit=Unit.SIZE),
    Column("PROCS", need=4, right=True, unit=Unit.NUMBER),
    Column("IDLE", need=6, right=True, unit=Unit.DURATION),
    Column("AGE", need=3, right=True, unit=Unit.DURATION),
    Column("OWNER", Fit.END, 8, need=7),
    Column("LABEL", Fit.MIDDLE, 16, extra=True),
    Column("SESSION ID", Fit.MIDDLE, 16, extra=True),
    Column("LIFETIME", extra=True),
    Column("UNIT", Fit.MIDDLE, 24, extra=True),
)
"""HOST is shown with -H, USER with --all-users, MEMBER where each row is a member."""
NAMES = tuple(column.name for column in COLUMNS)
_MEMORY = NAMES.index("memory")
_BAR = 6
_MUCH, _MOST = 0.75, 0.9
"""Shares of a limit from which memory is painted."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A scope, or one member of it, as one look found it."""

    scope: Scope
    member: Member | None
    state: str
    memory: int | None = None
    """Bytes; None if it is not known."""
    limit: int | None = None
    """Bytes that its memory may take; None if it has no limit of its own."""
    cpu: float | None = None
    """Percent of one CPU since the look before; None at the first look."""
    idle: float | None = None
    """For how many seconds it has done nothing."""
    age: float | None = None
    """Seconds."""
    host: str = ""
    """The machine that it runs on, if that was asked by name; its directory then begins with it."""
    user: str = ""
    """The name of its user there."""
    owner: str = ""
    """What its owner is called there."""

    @property
    def directory(self) -> str:
        """Its cgroup's."""
        return (self.member or self.scope).directory

    @property
    def processes(self) -> int:
        """How many processes it has."""
        return len((self.member or self.scope).pids)

    @property
    def session(self) -> str:
        """What its session is called here: no other session of any user has that key."""
        return f"{self.host} {self.scope.uid} {self.scope.session}"


@dataclass(frozen=True, slots=True)
class Shown:
    """What one row shows: one scope or member, or what is folded into its session."""

    key: str
    parts: tuple[Measured, ...]
    is_fold: bool = False

    @property
    def session(self) -> str:
        """The key of its session."""
        return self.parts[0].session

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Its scopes, each once."""
        return tuple({each.scope.directory: each.scope for each in self.parts}.values())

    @property
    def member(self) -> Member | None:
        """The one member that it shows."""
        return None if self.is_fold else self.parts[0].member

    @property
    def host(self) -> str:
        """The machine that it runs on, if that was asked by name."""
        return self.parts[0].host

    @property
    def title(self) -> str:
        """Its name for people."""
        scope = self.parts[0].scope
        if not scope.unit:
            return self.host
        where = f" on {self.host}" if self.host else ""
        if self.is_fold:
            return f"session {scope.shown_session}{where}"
        if self.member is not None:
            return f"{self.member.name} in {scope.unit}{where}"
        return f"{scope.unit}{where}"


TopRow = Row[Shown]


def row(each: Measured) -> TopRow:
    """Return the row of a scope or member."""
    scope, member = each.scope, each.member
    owner = each.owner or owners(scope)
    if member is not None and not each.owner:
        owner = "-" if member.owner_state is None else owner_title(member.owner_state)
    cells = (
        text(each.host),
        text(each.user or user(scope.uid)),
        text(scope.shown_session),
        text(scope.lane),
        text(scope.run),
        text("" if member is None else member.name),
        text((member or scope).kind),
        text(each.state),
        *_numbers(each.cpu, each.memory, each.limit, each.processes, each.idle, each.age),
        text(owner),
        text(scope.label),
        text(scope.session_id),
        text((member or scope).lifetime),
        text(scope.unit),
    )
    return Row(cells, Shown(each.directory, (each,)))


def folded(rows: Sequence[TopRow]) -> TopRow:
    """Return the one row of a session that stands for these rows of it."""
    parts = tuple(row.of.parts[0] for row in rows)
    limits = [each.limit for each in parts]
    together = (
        _sum([each.cpu for each in parts]),
        _sum([each.memory for each in parts]),
        _sum(limits) if None not in limits else None,
        sum(each.processes for each in parts),
        min((each.idle for each in parts if each.idle is not None), default=None),
        max((each.age for each in parts if each.age is not None), default=None),
    )
    before = [_common(rows, at) for at in range(NAMES.index("cpu%"))]
    behind = [_common(rows, at) for at in range(NAMES.index("owner"), len(COLUMNS))]
    name, state = NAMES.index("session"), NAMES.index("state")
    before[name] = Cell(f"+{len(parts)} {before[name].text}", before[name].value)
    if before[state].value is None:
        before[state] = text(MIXED)
    shown = Shown(f"+{parts[0].session}", parts, is_fold=True)
    return Row((*before, *_numbers(*together), *behind), shown)


def _common(rows: Sequence[TopRow], at: int) -> Cell:
    """Return the cell of a column if all rows have the same."""
    first = rows[0].cells[at]
    return first if all(row.cells[at] == first for row in rows) else Cell("-", None)


def _numbers(
    cpu: float | None,
    memory: float | None,
    limit: float | None,
    processes: int,
    idle: float | None,
    age: float | None,
) -> tuple[Cell, ...]:
    shown = "-" if cpu is None else f"{cpu:.1f}" if cpu < 100 else f"{cpu:.0f}"
    return (
        Cell(shown, cpu), size(memory), size(limit), number(processes), duration(idle),
        duration(age),
    )  # fmt: skip


def _sum(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) if known else None


def fold(rows: Sequence[TopRow], *, every: bool, unlike: Collection[str]) -> list[TopRow]:
    """Return the rows, with one for each session that is folded, at the place of its first row.

    every is whether sessions are folded, but for those in unlike; else only those in unlike are.
    """
    by_session: dict[str, list[TopRow]] = {}
    for each in rows:
        by_session.setdefault(each.of.session, []).append(each)
    found, done = [], set()
    for each in rows:
        session = each.of.session
        if (session in unlike) is every:
            found.append(each)
        elif session not in done:
            done.add(session)
            found.append(folded(by_session[session]))
    return found


def bar(part: float, whole: float, width: int) -> str:
    """Return a bar of that width: ``||||..``."""
    full = round(min(max(part / whole, 0.0), 1.0) * width) if whole > 0 else 0
    return "|" * full + "." * (width - full)


def table(
    rows: Sequence[TopRow],
    shown: Sequence[TopRow],
    width: int,
    *,
    members: bool,
    users: bool,
    coloured: bool,
    hosts: bool = False,
) -> Table:
    """Return the table of the rows that are shown, laid out so that all rows would fit.

    So columns do not move when another part of the rows is shown.
    """
    also = {"MEMBER": members, "USER": users, "HOST": hosts}
    at = [
        number
        for number, each in enumerate(COLUMNS)
        if not each.extra or also.get(each.title, False)
    ]
    has_limits = any(row.cells[_MEMORY + 1].value is not None for row in rows)
    paints: dict[str, Paint] = {}

    def texts(row: TopRow) -> list[str]:
        found = [row.cells[number].text for number in at]
        if has_limits and _MEMORY in at:
            found[at.index(_MEMORY)] = _with_bar(row, paints)
        return found

    widest = [max((row.cells[number].text for row in rows), key=width_of, default="")
              for number in at]  # fmt: skip
    if has_limits and rows:
        widest[at.index(_MEMORY)] = max(map(len, (row.cells[_MEMORY].text for row in rows))) * "9"
        widest[at.index(_MEMORY)] += " " + "|" * _BAR
    lines = [texts(row) for row in shown]
    columns = [
        replace(COLUMNS[number], paints=paints) if number == _MEMORY else COLUMNS[number]
        for number in at
    ]
    made = lay_out(columns, [widest, *lines], width, coloured=coloured)
    return replace(made, rows=made.rows[1:])


def _with_bar(row: TopRow, paints: dict[str, Paint]) -> str:
    """Return the memory of a row with its share of the limit; notes how that is painted."""
    memory, limit = row.cells[_MEMORY], row.cells[_MEMORY + 1].value
    if not isinstance(memory.value, (int, float)) or not isinstance(limit, (int, float)):
        return f"{memory.text} {' ' * _BAR}"
    shown = f"{memory.text} {bar(memory.value, limit, _BAR)}"
    share = memory.value / limit if limit else 1.0
    if share >= _MUCH:
        paints[shown] = Paint.RED if share >= _MOST else Paint.YELLOW
    return shown


def total(rows: Sequence[TopRow]) -> str:
    """Return one line on what the rows have together."""
    parts = [each for row in rows for each in row.of.parts if each.scope.unit]
    scopes = {each.scope.directory: each for each in parts}
    sessions = {each.session for each in parts}
    members = sum(1 if each.member else len(each.scope.living_members) for each in parts)
    words = [
        f"{counted(len(scopes), 'scope')} of {counted(len(sessions), 'session')}",
        counted(members, "member"),
        counted(sum(each.processes for each in parts), "process", "processes"),
    ]
    memory, cpu = (_sum([getattr(each, what) for each in parts]) for what in ("memory", "cpu"))
    if memory is not None:
        words.append(show_bytes(memory))
    if cpu is not None:
        words.append(f"{cpu:.0f}% of a CPU")
    states: dict[str, int] = {}
    for each in parts:
        if each.state != "running":
            states[each.state] = states.get(each.state, 0) + 1
    return ", ".join(words) + "".join(f"; {count} {state}" for state, count in states.items())
