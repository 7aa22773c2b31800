"""``scopekeeper ls --tree``: session, lane, scope, member, process."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scopekeeper.cli.ages import age_of
from scopekeeper.cli.cells import Cell, Unit, duration, number, size
from scopekeeper.cli.ends import Ends
from scopekeeper.cli.list_view import Row
from scopekeeper.cli.ls_rows import STATE_PAINTS, Listed
from scopekeeper.cli.table import Column, Fit
from scopekeeper.cli.tree import drawn, families
from scopekeeper.cli.users import user
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.processes import Process, look
from scopekeeper.scope.model import Member

COLUMNS = (
    Column("NAME", Fit.TREE, 26),
    Column("STATE", need=1, paints=STATE_PAINTS),
    Column("PROCS", need=5, right=True, unit=Unit.NUMBER),
    Column("RSS", need=2, right=True, unit=Unit.SIZE),
    Column("CPU", need=4, right=True, unit=Unit.DURATION),
    Column("AGE", need=3, right=True, unit=Unit.DURATION),
    Column("UNIT", Fit.MIDDLE, 24, extra=True),
)


@dataclass(slots=True)
class Node:
    """One line of the tree."""

    name: str
    state: str = ""
    processes: int | None = None
    resident: int = 0
    cpu: float | None = None
    age: float | None = None
    unit: str = ""
    below: list["Node"] = field(default_factory=list)


def rows(listed: Iterable[Listed], ends: Ends, now: int, *, users: bool) -> list[Row[Node]]:
    """Return the lines of the tree; a scope is named by its kind and run, under its lane.

    Scopes keep their order, sessions that of their first scope. now is in microseconds of
    CLOCK_BOOTTIME. With users, a session's name has its user before it.
    """
    sessions: dict[tuple[int, str], dict[str, list[Node]]] = {}
    for each in listed:
        scope = each.scope
        lanes = sessions.setdefault((scope.uid, scope.shown_session), {})
        lanes.setdefault(scope.lane, []).append(_scope(each, ends, now))
    top = [
        _sum(
            f"{user(uid)}: {session}" if users else session,
            [_sum(lane, nodes) for lane, nodes in lanes.items()],
        )
        for (uid, session), lanes in sessions.items()
    ]
    return [Row(_cells(before, node), node) for before, node in drawn(top, lambda node: node.below)]


def _cells(before: str, node: Node) -> tuple[Cell, ...]:
    return (
        Cell(before + node.name, node.name),
        Cell(node.state, node.state or None),
        Cell("", None) if node.processes is None else number(node.processes),
        size(node.resident),
        duration(node.cpu),
        duration(node.age),
        Cell(node.unit, node.unit or None),
    )


def _sum(name: str, below: list[Node]) -> Node:
    """Return the node of a session or lane: what is below it together, and the highest age."""
    return Node(
        name,
        "",
        sum(each.processes or 0 for each in below),
        sum(each.resident for each in below),
        _total(each.cpu for each in below),
        max((each.age for each in below if each.age is not None), default=None),
        below=below,
    )


def _total(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) if known else None


def _scope(listed: Listed, ends: Ends, now: int) -> Node:
    scope = listed.scope
    below = [_member(member, ends, now) for member in scope.members]
    strays = _processes(look(scope.strays, scope.cgroup))
    if strays:
        below.append(_sum("(outside every member)", strays))
    return Node(
        " ".join(filter(None, (scope.kind or "scope", scope.run))),
        listed.state,
        len(scope.pids),
        sum(each.resident for each in below),
        None if scope.cpu_usec is None else scope.cpu_usec / 1e6,
        scope.age,
        scope.unit,
        below,
    )


def _member(member: Member, ends: Ends, now: int) -> Node:
    found = look(member.pids, member.cgroup)
    used = cgroupfs.keyed(cgroupfs.read(member.directory, "cpu.stat"), "usage_usec")
    return Node(
        member.name,
        ends.state(member),
        len(member.pids),
        sum(each.resident for each in found),
        None if used is None else used / 1e6,
        age_of(member, now),
        below=_processes(found),
    )


def _processes(found: Sequence[Process]) -> list[Node]:
    """Return the nodes of processes, each with its children below it."""
    roots, children = families(found)
    nodes = {each.pid: _process(each) for each in found}
    for each in found:
        nodes[each.pid].below = [nodes[child.pid] for child in children(each)]
    return [nodes[each.pid] for each in roots]


def _process(each: Process) -> Node:
    name = f"{each.pid} {each.command}"
    return Node(name, each.state, None, each.resident, each.cpu, each.age)
