"""The columns of ``ls``, and the rows of scopes and of runs that have ended."""

import time
from collections.abc import Iterable, Mapping, Sequence

from scopekeeper.cli import ls_titles
from scopekeeper.cli.cells import Cell, Unit, duration, number, size, text
from scopekeeper.cli.colour import Paint
from scopekeeper.cli.ended_runs import ENDED
from scopekeeper.cli.ends import Ends
from scopekeeper.cli.list_view import Row
from scopekeeper.cli.owner_title import owner_title
from scopekeeper.cli.table import Column, Fit
from scopekeeper.cli.users import user
from scopekeeper.data import dataclass
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.scope.model import Liveness, OwnerState, Scope
from scopekeeper.scope.selection import STATES

TYPE_CHECKING = False
STATE_PAINTS: Mapping[str, Paint] = {
    "running": Paint.GREEN,
    **dict.fromkeys(("kept", "stopping", "leaderless", "foreign"), Paint.YELLOW),
    **dict.fromkeys(
        ("orphan", "abandoned", "expired", "damaged", "forged", "ghost", "escaped"), Paint.RED
    ),
    **dict.fromkeys(("empty", "exited", "ended", "continued", "-"), Paint.DIM),
}
_STATES = (*STATES, "ghost", ENDED, "continued")
COLUMNS = (
    Column("USER", extra=True),
    Column("SESSION", Fit.MIDDLE, 22),
    Column("LANE", Fit.MIDDLE, 6, need=5),
    Column("RUN", Fit.MIDDLE, 9, need=4),
    Column("KIND", need=11),
    Column("STATE", paints=STATE_PAINTS, values=_STATES),
    Column("STATUS", need=6, extra=True),
    Column("MEMBERS", need=8, right=True, unit=Unit.NUMBER),
    Column("PROCS", need=9, right=True, unit=Unit.NUMBER),
    Column("MEMORY", need=2, right=True, unit=Unit.SIZE),
    Column("CPU", need=10, right=True, unit=Unit.DURATION),
    Column("AGE", need=3, right=True, unit=Unit.DURATION),
    Column("ENDS", need=1, unit=Unit.DURATION, words={"now": 0.0, "never": float("inf")}),
    Column("OWNER", Fit.END, 12, need=7),
    Column("TITLE", Fit.END, 16, need=6, extra=True),
    Column("LABEL", Fit.MIDDLE, 16, extra=True),
    Column("SESSION ID", Fit.MIDDLE, 16, extra=True),
    Column("LIFETIME", extra=True),
    Column("UNIT", Fit.MIDDLE, 24, extra=True),
)
"""STATUS is shown beside ended runs, TITLE if a session has one, USER with --all-users."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A scope, its state, and the title of its session; '' if it has none."""

    scope: Scope
    state: str
    title: str


if TYPE_CHECKING:
    from typing import Any

    ListedRow = Row[Listed | dict[str, Any]]
    """Of a scope, or of a run that has ended."""


def of_scopes(shown: Sequence[tuple[Scope, str]], ends: Ends) -> "list[ListedRow]":
    """Return the rows of scopes, each with its state."""
    titles = ls_titles.of([scope for scope, _ in shown])
    return [
        Row(_cells(each, ends), each)
        for each in (Listed(x, state, titles.get(x.cgroup, "")) for x, state in shown)
    ]


def _cells(each: Listed, ends: Ends) -> tuple[Cell, ...]:
    scope = each.scope
    return (
        text(user(scope.uid)),
        text(scope.shown_session),
        text(scope.lane),
        text(scope.run),
        text(scope.kind),
        text(each.state),
        Cell("-", None),
        number(len(scope.living_members)),
        number(len(scope.pids)),
        size(scope.memory_bytes),
        duration(None if scope.cpu_usec is None else scope.cpu_usec / 1e6),
        duration(scope.age),
        Cell(ends.words(scope), ends.seconds(scope)),
        text(owners(scope)),
        text(each.title),
        text(scope.label),
        text(scope.session_id),
        text(scope.lifetime),
        text(scope.unit),
    )


def of_ended(ended: "Sequence[dict[str, Any]]") -> "list[ListedRow]":
    """Return the rows of ended runs, as ``ended_runs.find`` returns them."""
    now = time.time()
    rows: list[ListedRow] = []
    for each in ended:
        known = each["document"]
        cpu, began = known["cpu_usec"], known["started"]
        rows.append(
            Row(
                (
                    text(user(each["uid"])),
                    text(known["label"] or known["session"]),
                    text(known["lane"]),
                    text(known["run"] or ""),
                    text(known["kind"] or ""),
                    text(each["state"]),
                    text(each["status"]),
                    *[Cell("-", None)] * 3,
                    duration(None if cpu is None else cpu / 1e6),
                    duration(now - began) if began else Cell("?", None),
                    Cell(each["ago"], None),
                    text(known["owner"] or ""),
                    Cell("-", None),
                    text(known["label"] or ""),
                    text(known["session_id"] or ""),
                    text(known["lifetime"] or ""),
                    text(known["unit"]),
                ),
                each,
            )
        )
    return rows


def owners(scope: Scope) -> str:
    """Return its owners, each once, a process as ``claude[257]``."""
    states = {
        member.owner_state.owner: member.owner_state
        for member in scope.present_members
        if member.owner_state is not None
    }
    unknown = OwnerState(scope.owner, Liveness.UNKNOWN, "")
    found = ", ".join(dict.fromkeys(map(owner_title, states.values()))) or owner_title(unknown)
    return f"{found} (another container)" if scope.elsewhere else found


def total(rows: "Sequence[ListedRow]") -> str:
    """Return the last line: how many scopes, of how many sessions, and what they use together."""
    scopes = [row.of.scope for row in rows if isinstance(row.of, Listed)]
    sessions = len({(each.uid, each.session) for each in scopes})
    parts = [
        f"{counted(len(scopes), 'scope')} of {counted(sessions, 'session')}",
        counted(sum(len(x.living_members) for x in scopes), "member"),
        counted(sum(len(x.pids) for x in scopes), "process", "processes"),
    ]
    if any(x.memory_bytes is not None for x in scopes):
        parts.append(f"{show_bytes(_sum(x.memory_bytes for x in scopes))} of memory")
    if any(x.cpu_usec is not None for x in scopes):
        parts.append(f"{show_duration(_sum(x.cpu_usec for x in scopes) / 1e6)} of CPU")
    if len(scopes) < len(rows):
        parts.append(counted(len(rows) - len(scopes), "ended run"))
    return ", ".join(parts if scopes else parts[-1:])


def _sum(values: Iterable[int | None]) -> int:
    return sum(value or 0 for value in values)


def counted(count: int, one: str, many: str = "") -> str:
    """Return ``1 scope``, ``5 scopes``."""
    return f"{count} {one if count == 1 else many or one + 's'}"
