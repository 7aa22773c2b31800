"""Finds the reason of an end that the keeper watched. Pure."""

import dataclasses
import signal
from dataclasses import dataclass

from scopekeeper.history.end import UNTOLD, End
from scopekeeper.kernel.exit_status import Exit, words
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.systemd.shutdown import Stopping

_ENDED_BY_SYSTEMD = (signal.SIGTERM, signal.SIGKILL)
_CRASHES = (
    signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP,
)  # fmt: skip
"""Signals that a process gets for a fault of its own."""
_SLACK = 1_000_000
"""Microseconds by which systemd's timer may differ from ours."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else was known of a scope when one of its members ended."""

    bound_to: str = ""
    """The unit whose stop makes systemd stop the scope, or all of the cgroup that it is in."""
    owner_gone: str = ""
    """The evidence that the member's owner is gone; '' if it is not."""
    ttl: int | None = None
    """Microseconds after which systemd stops the scope."""
    age: int = 0
    """Microseconds."""
    stopping: Stopping = Stopping.NOTHING
    """What was being stopped around the scope."""
    by_oomd: str = ""
    """The evidence that systemd-oomd killed the member; '' if it did not."""


def explain(
    end: End, exit_: Exit | None, cause: Cause | None, oom_kills: int, around: Circumstances
) -> End:
    """Return an end with its reason and the evidence.

    The first that holds: killed by the OOM killer or by systemd-oomd; marked by a stop; ended with
    the service that owns it; stopped by systemd for a property set at the launch; ended by itself;
    unknown. The evidence of another cause is about that alone: how the member's own command ended
    has fields of its own.
    """
    status, number = (exit_.status, exit_.signal) if exit_ else (None, None)
    end = dataclasses.replace(
        end, exit_status=status, signal=number, oom_kills=max(oom_kills, end.oom_kills or 0) or None
    )
    if oom_kills and status is None and number in (None, signal.SIGKILL):
        evidence = f"the OOM killer killed {oom_kills} of its processes (memory.events)"
        return _with(end, Reason.OOM_KILLED, evidence)
    if around.by_oomd and status is None and number in (None, signal.SIGKILL):
        return _with(end, Reason.OOM_KILLED, around.by_oomd)
    if cause is not None:
        return dataclasses.replace(_with(end, cause.reason, cause.evidence), stopper=cause.stopper)
    if around.bound_to and around.owner_gone and may_follow(exit_):
        return _with(end, Reason.OWNER_GONE, _with_unit(around))
    if was_ended(exit_):
        if around.ttl is not None and around.age + _SLACK >= around.ttl:
            return _with(end, Reason.TTL, f"systemd ended it after its {around.ttl / 1e6:g} s")
        if around.stopping is Stopping.MACHINE:
            return _with(end, Reason.REBOOT, "the machine was going down")
        if around.stopping is Stopping.MANAGER and exit_ is not None and exit_.signal is not None:
            how = words(None, number)
            evidence = f"{how}, as the user's manager stopped with all that it ran"
            return _with(end, Reason.SIGNALLED, evidence)
    if status is not None:
        return _with(end, Reason.EXITED, words(status, None))
    if number is not None:
        return _with(end, Reason.SIGNALLED, words(None, number))
    return _with(end, Reason.UNKNOWN, UNTOLD)


def completed(end: End, seen: Exit | None) -> End:
    """Return an unknown end completed with the exit that another watch of its process saw."""
    if end.reason is not Reason.UNKNOWN or seen is None or not words(seen.status, seen.signal):
        return end
    return explain(end, seen, None, 0, Circumstances())


def was_ended(exit_: Exit | None) -> bool:
    """Return True if a process may have been ended by systemd: by SIGTERM or SIGKILL."""
    if exit_ is None or exit_.status == 128 + signal.SIGTERM:
        return True
    return exit_.status is None and exit_.signal in (None, *_ENDED_BY_SYSTEMD)


def may_follow(exit_: Exit | None) -> bool:
    """Return whether a process may have ended because its owner did.

    By SIGTERM or SIGKILL from systemd, or by itself: on SIGTERM, at the end of its input, or
    because nobody reads its output. All of these are one end of the owner. A crash is its own.
    """
    return exit_ is None or exit_.signal not in _CRASHES


def _with_unit(around: Circumstances) -> str:
    """Return the evidence of the owner's end, with the unit that systemd ended."""
    if around.bound_to in around.owner_gone:
        return around.owner_gone
    return f"systemd ended it with {around.bound_to}: {around.owner_gone}"


def _with(end: End, reason: Reason, evidence: str) -> End:
    return dataclasses.replace(end, reason=reason, evidence=evidence)
