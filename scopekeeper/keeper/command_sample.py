"""An event to try the command of a rule with, without waiting for a real one. Pure."""

import time

from scopekeeper.exec.run import Run
from scopekeeper.history.end import End
from scopekeeper.keeper import notices
from scopekeeper.lifecycle.escaped import Escaped
from scopekeeper.policy.command_rules import FAILED, ON_END, CommandRule
from scopekeeper.scope import names
from scopekeeper.scope.model import Member, Scope
from scopekeeper.scope.reason import Reason

_SESSION, _NAME, _ID = "agent:main:main", "example", "00000000"
_GIB = 1 << 30


def sample(rule: CommandRule) -> notices.Notice:
    """Return an event that a rule is about; of several, the first by its name."""
    lane = min(rule.lanes, default="main")
    kind = min(rule.kinds, default="mcp")
    unit = names.unit_name(_SESSION, lane)
    leaf = names.leaf_name(_NAME, _ID)
    now = time.time_ns() // 1000
    if rule.table == ON_END:
        return notices.MemberEnded(_end(rule, lane, kind, unit, now))
    member = Member(_NAME, _ID, leaf, leaf, kind=kind)
    scope = Scope(unit, unit, unit, 0, _SESSION, lane, kind=kind)
    event = min(rule.events)
    if event == "MemoryHigh":
        limit = 4 * _GIB
        used = round(rule.memory_share * limit)
        return notices.MemoryHigh(scope, None, used, limit, rule.memory_share)
    if event == "ProcessEscaped":
        process = Escaped(
            pid=1000, uid=0, start_time="1", session=_SESSION, lane=lane, scope=unit, leaf=leaf,
            cgroup="/app.slice/example.scope", command=_NAME, is_over=True, in_service=False,
        )  # fmt: skip
        return notices.ProcessEscaped(process)
    if event == "ScratchHigh":
        return notices.ScratchHigh(scope, member, "/example", 2 * _GIB, _GIB)
    if event == "RunWarning":
        run = Run("00000000", _SESSION, lane, _NAME, (), now, "")
        return notices.RunWarning(run, "this is no real warning")
    return notices.OrphanFound(scope, member, "this is no real orphan")


def _end(rule: CommandRule, lane: str, kind: str, unit: str, now: int) -> End:
    wanted = min(rule.reasons, default=FAILED)
    reason = Reason.EXITED if wanted == FAILED else Reason(wanted)
    return End(
        member_id=_ID, started=now - 1_000_000, ended=now, session=_SESSION, lane=lane, name=_NAME,
        reason=reason, evidence="this is no real end", kind=kind, unit=unit, processes=1,
        exit_status=1 if reason is Reason.EXITED else None,
        signal=9 if reason in (Reason.OOM_KILLED, Reason.SIGNALLED) else None,
        oom_kills=1 if reason is Reason.OOM_KILLED else None,
    )  # fmt: skip
