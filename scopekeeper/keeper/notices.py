"""The notices that a keeper publishes. Pure: a small closed set of frozen data."""

from collections.abc import Callable
from dataclasses import dataclass

from scopekeeper.exec.run import Run
from scopekeeper.history.end import End
from scopekeeper.lifecycle.escaped import Escaped
from scopekeeper.scope import names
from scopekeeper.scope.model import Member, Scope


@dataclass(frozen=True, slots=True)
class ScopeStarted:
    """A scope exists."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class MemberStarted:
    """A command runs in a scope."""

    scope: Scope
    member: Member


@dataclass(frozen=True, slots=True)
class MemberEnded:
    """No process of a member is left."""

    end: End


@dataclass(frozen=True, slots=True)
class ScopeLabelled:
    """A scope has got another label, or has lost it."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class ScopeEnded:
    """A scope is gone."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class OrphanFound:
    """A member has lost its owner; evidence has the proof, and what will be done."""

    scope: Scope
    member: Member
    evidence: str


@dataclass(frozen=True, slots=True)
class RunWarning:
    """A run will be stopped soon unless something changes; text has when and why."""

    run: Run
    text: str


@dataclass(frozen=True, slots=True)
class ProcessEscaped:
    """A process was found outside of the scope that its environment names."""

    process: Escaped


@dataclass(frozen=True, slots=True)
class MemoryHigh:
    """The memory of a scope, or of a member with a limit of its own, has passed a share of that.

    Only published if a rule of the policy asks for it.
    """

    scope: Scope
    member: Member | None
    used: int
    """Bytes, without those files that the kernel can drop at once."""
    limit: int
    share: float
    """The part of the limit that was to be passed."""


@dataclass(frozen=True, slots=True)
class ScratchHigh:
    """The scratch folder of a member has passed the ``scratch_max`` of its launch."""

    scope: Scope
    member: Member
    path: str
    used: int
    """Bytes; there may be more."""
    limit: int


Notice = (
    ScopeStarted
    | ScopeLabelled
    | MemberStarted
    | MemberEnded
    | ScopeEnded
    | OrphanFound
    | RunWarning
    | ProcessEscaped
    | MemoryHigh
    | ScratchHigh
)
Tell = Callable[[Notice], None]
Value = str | int | None


def fields(notice: Notice) -> dict[str, Value]:
    """Return a notice as plain values, as the bus and ``watch --json`` publish it."""
    values: dict[str, Value] = {"event": type(notice).__name__}
    if isinstance(notice, MemberEnded):
        end = notice.end
        return values | {
            "unit": end.unit,
            "session": end.session,
            "label": end.label,
            "lane": end.lane,
            "run": end.run,
            "member": end.name,
            "member_id": end.member_id,
            "reason": end.reason.value,
            "evidence": end.evidence,
            "exit_status": end.exit_status,
            "signal": end.signal,
            "processes": end.processes,
            "killed": end.killed,
            "oom_kills": end.oom_kills,
        }
    if isinstance(notice, RunWarning):
        run = notice.run
        return values | {
            "session": run.session,
            "lane": run.lane,
            "run": run.id,
            "member": run.name,
            "warning": notice.text,
        }
    if isinstance(notice, ProcessEscaped):
        process = notice.process
        leaf = names.parse_leaf(process.leaf)
        unit = process.scope.rpartition("/")[2]
        named = names.parse_unit(unit)
        return values | {
            "unit": unit,
            "session": process.session,
            "label": process.label,
            "lane": process.lane,
            "run": named[2] if named else "",
            "member": leaf[0] if leaf else "",
            "member_id": leaf[1] if leaf else "",
            "pid": process.pid,
            "program": process.program,
            "evidence": process.evidence,
        }
    scope = notice.scope
    values |= {
        "unit": scope.unit,
        "session": scope.session,
        "label": scope.label,
        "lane": scope.lane,
        "run": scope.run,
    }
    if isinstance(notice, MemberStarted | OrphanFound | ScratchHigh):
        values |= {"member": notice.member.name, "member_id": notice.member.member_id}
    if isinstance(notice, OrphanFound):
        values |= {"evidence": notice.evidence}
    if isinstance(notice, ScratchHigh):
        values |= {"path": notice.path, "scratch_bytes": notice.used, "limit_bytes": notice.limit}
    if isinstance(notice, MemoryHigh):
        if notice.member is not None:
            values |= {"member": notice.member.name, "member_id": notice.member.member_id}
        values |= {"memory_bytes": notice.used, "limit_bytes": notice.limit}
    return values
