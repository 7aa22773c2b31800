"""Turns the end of a run into that of its member, and back; names a run in messages."""

import time

from scopekeeper.exec.run import Ended, Run
from scopekeeper.history.end import End, cut_argv
from scopekeeper.keeper.exec.live import Live
from scopekeeper.keeper.log import named
from scopekeeper.scope import names
from scopekeeper.scope.reason import Reason


def ended_as(live: Live, end: End) -> Ended:
    """Return the end of a run from that of its member; with the exit status that the run has."""
    status, number = end.exit_status, end.signal
    if status is None and number is None and live.exit is not None:
        status, number = live.exit.status, live.exit.signal
    return Ended(end.ended, end.reason.value, end.evidence, status, number)


def as_end(known: Run) -> End:
    """Return the end that a run would have now."""
    leaf = names.parse_leaf(known.leaf)
    return End(
        member_id=leaf[1] if leaf else known.id,
        started=known.joined or known.started,
        ended=time.time_ns() // 1000,
        session=known.session,
        lane=known.lane,
        name=known.name,
        reason=Reason.UNKNOWN,
        session_id=known.session_id,
        run=known.id,
        kind="pty",
        lifetime=known.lifetime,
        unit=names.unit_name(known.session, known.lane, known.id),
        pid=known.pid,
        argv=cut_argv(list(known.argv)),
        boot_id=known.boot_id,
    )


def title(known: Run) -> str:
    """Return the name of a run in a message."""
    return f"{known.id} ({known.name} of {known.session})"


def names_of(known: Run) -> dict[str, dict[str, str]]:
    """Return the names that are in such a message, and where the run is."""
    unit = known.directory.rpartition("/")[2]
    return named(
        session=known.session, lane=known.lane, run=known.id, scope=unit, member=known.name
    )
