"""The row that the history gets for an escaped process that was ended."""

import os
import time
from collections.abc import Mapping, Sequence

from scopekeeper.history.end import End, cut_argv
from scopekeeper.kernel import proc
from scopekeeper.lifecycle.escaped import Escaped
from scopekeeper.scope import names
from scopekeeper.scope.reason import Cause, Reason

BY_RULE = Cause(Reason.ESCAPED)
"""The cause where the lane's rule ``escaped`` is ``stop``."""


def ends_of(escaped: Sequence[Escaped], outcomes: Mapping[int, str], cause: Cause) -> list[End]:
    """Return the end of each process that was ended, as a row beside that of its member.

    outcomes has ``terminated`` or ``killed`` by pid; any other was not ended.
    """
    now, since_boot = time.time_ns() // 1000, proc.boottime()
    ended = [each for each in escaped if outcomes.get(each.pid) in ("terminated", "killed")]
    ends = (_end(each, outcomes[each.pid], cause, now, now - since_boot) for each in ended)
    return [end for end in ends if end is not None]


def _end(each: Escaped, outcome: str, cause: Cause, now: int, booted: int) -> End | None:
    leaf = names.parse_leaf(each.leaf)
    if leaf is None:
        return None  # no launch of ours writes that
    left = f"process {each.pid} had left it, to {each.cgroup}"
    started = int(each.start_time) * 1_000_000 // os.sysconf("SC_CLK_TCK")
    return End(
        member_id=leaf[1],
        started=booted + started,
        ended=now,
        session=each.session,
        label=each.label,
        lane=each.lane,
        name=leaf[0],
        reason=cause.reason,
        evidence="; ".join(filter(None, (cause.evidence, left))),
        kind=each.kind,
        unit=each.scope,
        pid=each.pid,
        argv=cut_argv(each.command.split(" ")),
        boot_id=proc.boot_id(),
        processes=1,
        killed=int(outcome == "killed"),
        stopper=cause.stopper,
    )
