"""What ``top`` shows of one row: its limits and processes, its output, and why the last ones ended.

Everything is lines of text, made safe here; the screen wraps them.
"""

from collections.abc import Iterator, Mapping, Sequence

from scopekeeper.cli.cells import duration, number, size
from scopekeeper.cli.ends import Ends
from scopekeeper.cli.show import processes
from scopekeeper.cli.stderr_lines import stderr_of, where
from scopekeeper.cli.table import Column, Fit, lay_out
from scopekeeper.cli.top.rows import Measured, Shown
from scopekeeper.cli.tree import drawn, families
from scopekeeper.errors import ScopekeeperError
from scopekeeper.kernel import cgroupfs
from scopekeeper.kernel.processes import Process, look
from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.safe_text import safe, safe_lines
from scopekeeper.scope.model import Member, Scope, Snapshot

_PROCESSES = 200
"""The most processes that a page lists."""
_LINES, _BYTES = 500, 256 << 10
"""The end of a run's output that is shown."""
_FEW = 10
"""Lines of it beside the processes."""
_MOST_STDERR = 5
"""Members whose stderr is shown."""
_TAB = 8
_COLUMNS = (
    Column("MEMBER", Fit.MIDDLE, 8, need=6),
    Column("PID", right=True),
    Column("STATE", need=4),
    Column("AGE", need=3, right=True),
    Column("CPU", need=2, right=True),
    Column("RSS", need=1, right=True),
    Column("COMMAND", Fit.TREE, 16),
)


def details(
    shown: Shown, snapshot: Snapshot, width: int, in_journal: Mapping[str, list[str]]
) -> list[str]:
    """Return what a row is made of now; snapshot has all scopes.

    in_journal is what ``stderr_in_journal`` has returned.
    """
    ends = Ends(snapshot)
    lines: list[str] = []
    for each in shown.parts:
        if lines:
            lines.append("")
        lines += _facts(each, ends)
    lines += ["", *_processes(shown, width)]
    for scope in shown.scopes:
        lines += _output_of(scope)
    for member in _members(shown)[:_MOST_STDERR]:
        found = in_journal.get(member.leaf) or stderr_of(member.leaf, ask_journal=False)
        if found:
            lines += ["", f"{safe(member.name)}: {found[0]}", *(f"  {x}" for x in found[1:])]
    return lines


def stderr_in_journal(shown: Shown) -> dict[str, list[str]]:
    """Ask the journal, which takes a while, for the stderr of members in a row; by leaf."""
    leaves = [each.leaf for each in _members(shown)[:_MOST_STDERR]]
    return {leaf: stderr_of(leaf) for leaf in leaves if where(leaf) == "journal"}


def _members(shown: Shown) -> list[Member]:
    """Return the living members of a row."""
    groups = ((p.member,) if p.member else p.scope.living_members for p in shown.parts)
    return [member for group in groups for member in group]


def _facts(each: Measured, ends: Ends) -> Iterator[str]:
    scope, member = each.scope, each.member
    what = member or scope
    yield _fact("scope", f"{scope.unit}{f' ({scope.label})' if scope.label else ''}")
    run = f", run {scope.run}" if scope.run else ""
    life = f", session id {scope.session_id}" if scope.session_id else ""
    yield _fact("session", f"{scope.session}, lane {scope.lane}{run}{life}")
    if member is not None:
        yield _fact("member", f"{member.name} ({member.leaf})")
    kind = f"{what.kind or 'unknown'}, lifetime {what.lifetime or 'unknown'}"
    yield _fact("kind", kind)
    when = ends.words(what)
    yield _fact("state", each.state if when == "-" else f"{each.state}, ends {when}")
    for text in filter(None, (what.problem, scope.forgery)):
        yield _fact("problem", text)
    for text in _owners(scope, member):
        yield _fact("owner", text)
    yield _fact("memory", _memory(each))
    yield _fact("CPU", _cpu(each))
    age = "unknown" if each.age is None else show_duration(each.age)
    idle = "" if each.idle is None else f", idle for {show_duration(each.idle)}"
    yield _fact("age", f"{age}{idle}")
    yield _fact("cgroup", what.cgroup)


def _fact(name: str, value: str) -> str:
    return f"{name:9}{safe(value)}"


def _owners(scope: Scope, member: Member | None) -> list[str]:
    members = (member,) if member is not None else scope.present_members
    states = [each.owner_state for each in members if each.owner_state is not None]
    return list(dict.fromkeys(f"{x.owner.label}: {x.evidence}" for x in states))


def _memory(each: Measured) -> str:
    if each.memory is None:
        return "unknown: its cgroup has no memory controller (scopekeeper doctor)"
    limit = "without a limit of its own" if each.limit is None else f"of {show_bytes(each.limit)}"
    peak = (cgroupfs.read(each.directory, "memory.peak") or "").strip()
    highest = f", {show_bytes(int(peak))} at its peak" if peak.isdecimal() else ""
    return f"{show_bytes(each.memory)} {limit}{highest}"


def _cpu(each: Measured) -> str:
    used = cgroupfs.keyed(cgroupfs.read(each.directory, "cpu.stat"), "usage_usec")
    now = "" if each.cpu is None else f"{each.cpu:.1f}% of one now, "
    return f"{now}{'unknown' if used is None else show_duration(used / 1e6)} in all"


def _processes(shown: Shown, width: int) -> list[str]:
    """Return the processes of a row as a tree for each member."""
    rows: list[list[str]] = []
    count = sum(each.processes for each in shown.parts)
    for name, pids, cgroup in _groups(shown):
        for before, each in drawn(*families(look(pids[:_PROCESSES], cgroup))):
            if len(rows) < _PROCESSES:
                rows.append(_cells(name, before, each))
    if not rows:
        return ["no process"]
    table = lay_out(_COLUMNS, rows, width)
    lines = [table.header, *(line for row in table.rows for line in row)]
    if len(rows) == _PROCESSES and count > _PROCESSES:
        lines.append(f"(the first {_PROCESSES} of {processes(count)})")
    return lines


def _groups(shown: Shown) -> Iterator[tuple[str, Sequence[int], str]]:
    """Yield the members with their processes, and those outside of every member."""
    for part in shown.parts:
        scope = part.scope
        for member in (part.member,) if part.member is not None else scope.members:
            if member.pids:
                yield member.name, member.pids, member.cgroup
        if part.member is None and scope.strays:
            yield "-", scope.strays, scope.cgroup


def _cells(name: str, before: str, each: Process) -> list[str]:
    numbers = (duration(each.age), duration(each.cpu), size(each.resident))
    texts = [cell.text for cell in numbers]
    return [name, number(each.pid).text, each.state, *texts, before + each.command]


def run_of(shown: Shown) -> str:
    """Return the id of the run whose terminal or output the keeper holds; '' if it has none."""
    from scopekeeper.exec.run import is_id, load  # only rows that are asked about need json

    found = [each.run for each in shown.scopes if is_id(each.run) and load(each.run) is not None]
    return found[0] if len(found) == 1 else ""


def _output_of(scope: Scope) -> list[str]:
    if scope.kind != "pty" or not scope.run:
        return []
    try:
        lines = output(scope.run, _FEW)
    except (ScopekeeperError, OSError):
        return []
    return ["", "the end of its output:", *(f"  {line}" for line in lines)] if lines else []


def output(run_id: str, count: int = _LINES) -> list[str]:
    """Return the last lines of a run's output as text; raises ScopekeeperError, OSError."""
    from scopekeeper.exec import log, run
    from scopekeeper.exec.text import Plain

    folder = run.find(run_id).folder
    position = max(log.last_lines(folder, count), log.end(folder) - _BYTES)
    plain, pieces = Plain(), []
    while True:
        found, data = log.read(folder, position, _BYTES)
        if not data:
            break
        pieces.append(plain.feed(data))
        position = found + len(data)
        if sum(map(len, pieces)) > 4 * _BYTES:  # it writes faster than this reads
            break
    text = "".join(pieces) + plain.finish(final=False)
    lines = safe_lines(text).replace("\r", "").expandtabs(_TAB).split("\n")
    return (lines[:-1] if lines and not lines[-1] else lines)[-count:]
