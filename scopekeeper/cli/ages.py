"""For how long a member has run, and has done nothing."""

from scopekeeper.scope import activity
from scopekeeper.scope.model import Member


def age_of(member: Member, now: int) -> float | None:
    """Return the seconds since its start; None if its record lacks that."""
    return (now - member.born) / 1e6 if member.born else None


def idle_of(member: Member, now: int) -> float | None:
    """Return for how many seconds it has done nothing; None if its lane does not count that."""
    if member.idle_since is None or not member.lives:
        return None
    done = activity.read(member.directory, member.pids)
    since = activity.idle_since(done, member.idle_since, now)
    return 0.0 if since is None else (now - since) / 1e6
