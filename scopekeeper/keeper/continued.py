"""Finds the member as which the command of an empty one goes on: its command was ``run`` itself."""

from scopekeeper.keeper.scope_tracker import Ending
from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.scope import names
from scopekeeper.scope.model import Member, Scope
from scopekeeper.scope.snapshot import Reader


def find(ending: Ending, mount: str) -> tuple[Scope, Member] | None:
    """Return that member with its scope; None if its command has ended, or is not in one yet."""
    pid, start_time = ending.end.pid, ending.start_time
    try:
        if not pid or start_time is None or not proc.runs(pid, start_time):
            return None
        parts = cgroupfs.path_of(pid).split("/")
        while parts and not names.parse_unit(parts[-1]):
            parts.pop()
        scope = Reader(mount).scope(mount + "/".join(parts)) if parts else None
    except OSError:
        return None
    for member in scope.members if scope is not None else ():
        if scope is not None and not member.unsure and ending.goes_on_as(member):
            return scope, member
    return None
