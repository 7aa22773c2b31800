"""What speaks against a marker: a process can inherit it from another session's tmux server.

A marker says where an environment comes from. A terminal multiplexer hands its founder's to all
its windows, whoever opens them. What its own family, terminal or names contradict is shown, but
never moved or ended.
"""

import contextlib

from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.kernel.children import children_of
from scopekeeper.scope import marker, names
from scopekeeper.scope.marker import Marked
from scopekeeper.scope.model import Member

_MOST_CHILDREN = 200


def contradiction(found: Marked, member: Member | None) -> str:
    """Return why a process may not be of the member that its marker names; '' if nothing says so.

    member is that member if it still lives. Raises OSError if the process cannot be read.
    """
    stat = proc.stat_of(found.pid)
    if stat is None:
        return ""
    leader = member.pid if member is not None else None
    return (
        _of_names(found)
        or _of_parent(found, stat.parent, leader)
        or _of_terminal(found, stat, leader)
        or _of_children(found)
    )


def _of_names(found: Marked) -> str:
    session, lane, run = (found.value(name) for name in ("SESSION", "LANE", "RUN"))
    if names.unit_name(session, lane, run) == found.scope:
        return ""
    where = f", lane {lane}" if lane else ""
    return f"its environment says that it is of session {session or '-'}{where}"


def _of_parent(found: Marked, parent: int, leader: int | None) -> str:
    if parent <= 1 or found.pid == leader:  # who launches a member is elsewhere
        return ""
    scope = names.unit_of(cgroupfs.path_of(parent))
    if scope and scope != found.scope:
        return f"its parent, process {parent}, is in {scope}"
    other = marker.look(parent)
    if other is not None and not _is_of_same(found, other):
        return f"its parent, process {parent}, was started in {other.scope}"
    return ""


def _of_terminal(found: Marked, stat: proc.Stat, leader: int | None) -> str:
    """Look for a terminal that was opened since the member was left, and is not the member's."""
    if not stat.terminal:
        return ""
    if leader is not None:
        its = proc.stat_of(leader)
        if its is not None and its.session == stat.session:
            return ""
    opener = marker.look(stat.session)
    if opener is not None and _is_of_same(found, opener):
        return "it has a terminal of its own, where somebody may be"
    return ""


def _of_children(found: Marked) -> str:
    """Look for a terminal that it holds for a child, as a server of terminals does."""
    for child in children_of(found.pid)[:_MOST_CHILDREN]:
        with contextlib.suppress(OSError):
            stat = proc.stat_of(child)
            if stat is not None and stat.session == child and stat.terminal:
                return f"it holds the terminal of process {child}, where somebody may be"
    return ""


def _is_of_same(one: Marked, other: Marked) -> bool:
    return (one.scope, one.value("MEMBER")) == (other.scope, other.value("MEMBER"))
