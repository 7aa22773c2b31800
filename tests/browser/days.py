"""Histories for the page: the same for each number of ends, with names that try to be more."""

import random
import time

from scopekeeper.history.end import End
from scopekeeper.scope import names
from scopekeeper.scope.reason import Reason

DAY = 86_400_000_000
HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 2'>",
    "\"' onmouseover='window.hacked = 3' x=\"",
    "]]><!-- \u202egnp.exe \x1b[2J \u2028 \udce4",
)
"""What a process may call itself."""
_SERVERS = ("time", "git", "fetch", "filesystem", "playwright", "postgres", "github", "memory")
_LANES = ("main", "main", "main", "cron", "heartbeat", "nested:agent:spark", "subagent")
_OFTEN = (
    *(Reason.EXITED,) * 8, *(Reason.STOPPED,) * 8, *(Reason.OWNER_GONE,) * 3, *Reason,
)  # fmt: skip


def ends(count: int, now: int | None = None) -> list[End]:
    """Return so many ends of the last 24 hours, the oldest first; now is in microseconds."""
    now = time.time_ns() // 1000 if now is None else now
    dice = random.Random(count)
    found: list[End] = []
    while len(found) < count:
        found += _scope(dice, len(found), now)[: count - len(found)]
    for at, hostile in enumerate(HOSTILE[: max(1, count // 3)]):
        known = found[at]
        found[at] = End(
            known.member_id, known.started, known.ended, hostile, hostile[:20], hostile,
            Reason.SIGNALLED, hostile, unit=known.unit, signal=11, kind="mcp", argv=(hostile,),
        )  # fmt: skip
    return sorted(found, key=lambda each: each.ended)


def _scope(dice: random.Random, begin: int, now: int) -> list[End]:
    """Return the members of one life of a scope."""
    session = f"agent:{dice.choice(('main', 'spark', 'ops'))}:{dice.randrange(1 + begin % 97)}"
    lane = dice.choice(_LANES)
    run = f"{dice.randrange(1 << 32):08x}" if dice.random() < 0.5 else ""
    is_short = dice.random() < 0.4
    length = round(dice.expovariate(1 / (60e6 if is_short else 5400e6))) + 500_000
    over = now - dice.randrange(1_000_000, DAY - 3_600_000_000)
    reason = dice.choice(_OFTEN)
    return [
        _end(dice, begin + at, names.unit_name(session, lane, run), (session, lane, run),
             (over - length, over), reason if dice.random() < 0.8 else dice.choice(_OFTEN))
        for at in range(1 if is_short else dice.randrange(1, 10))
    ]  # fmt: skip


def _end(
    dice: random.Random,
    number: int,
    unit: str,
    key: tuple[str, str, str],
    times: tuple[int, int],
    reason: Reason,
) -> End:
    started, over = times
    session, lane, run = key
    ended = over if dice.random() < 0.7 else dice.randrange(max(started, over - 3600_000_000), over)
    name = dice.choice(_SERVERS)
    known = dice.random() < 0.95
    return End(
        f"{number:08x}", started, ended, session, lane, name, reason, f"evidence {number}",
        run=run, kind="mcp" if dice.random() < 0.7 else "exec", unit=unit,
        argv=(f"/usr/bin/mcp-server-{name}", "--token", "hunter2"),
        exit_status=0 if reason is Reason.EXITED else None,
        signal=9 if reason in (Reason.SIGNALLED, Reason.OOM_KILLED) else None,
        memory_peak=round(dice.paretovariate(1.2) * 20e6) if known else None,
        cpu_usec=round(dice.paretovariate(1) * 200_000) if known else None,
        seen=dice.random() < 0.9,
    )  # fmt: skip
