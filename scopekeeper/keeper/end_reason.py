"""Finds the reason of an end that the keeper watched. Pure."""

import dataclasses
import signal
from dataclasses import dataclass

from scopekeeper.history.end import UNTOLD, End
from scopekeeper.kernel.exit_status import Exit
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.systemd.shutdown import Stopping

_ENDED_BY_SYSTEMD = (signal.SIGTERM, signal.SIGKILL)
_SLACK = 1_000_000
"""Microseconds by which systemd's timer may differ from ours."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else was known of a scope when one of its members ended."""

    bound_to: str = ""
    """The unit whose stop makes systemd stop the scope."""
    owner_gone: str = ""
    """The evidence that the member's owner is gone; '' if it is not."""
    ttl: int | None = None
    """Microseconds after which systemd stops the scope."""
    age: int = 0
    """Microseconds."""
    stopping: Stopping = Stopping.NOTHING
    """What was being stopped around the scope."""


def explain(
    end: End, exit_: Exit | None, cause: Cause | None, oom_kills: int, around: Circumstances
) -> End:
    """Return an end with its reason and the evidence.

    The first that holds: killed by the OOM killer; marked by a stop; stopped by systemd for a
    property set at the launch; ended by itself; unknown.
    """
    status, number = (exit_.status, exit_.signal) if exit_ else (None, None)
    end = dataclasses.replace(
        end, exit_status=status, signal=number, oom_kills=max(oom_kills, end.oom_kills or 0) or None
    )
    if oom_kills and status is None and number in (None, signal.SIGKILL):
        words = f"the OOM killer killed {oom_kills} of its processes (memory.events)"
        return _with(end, Reason.OOM_KILLED, words)
    if cause is not None:
        how = f" ({_words(exit_)})" if exit_ and _words(exit_) else ""
        ended = _with(end, cause.reason, cause.evidence + how)
        return dataclasses.replace(ended, stopper=cause.stopper)
    if was_ended(exit_):
        if around.bound_to and around.owner_gone:
            words = f"systemd ended it with {around.bound_to}: {around.owner_gone}"
            return _with(end, Reason.OWNER_GONE, words)
        if around.ttl is not None and around.age + _SLACK >= around.ttl:
            words = f"systemd ended it after its {around.ttl / 1e6:g} s"
            return _with(end, Reason.TTL, words)
        how = f" ({_words(exit_)})" if _words(exit_) else ""
        if around.stopping is Stopping.MACHINE:
            return _with(end, Reason.REBOOT, f"the machine was going down{how}")
        if around.stopping is Stopping.MANAGER and exit_ is not None and exit_.signal is not None:
            words = f"{_words(exit_)}, as the user's manager stopped with all that it ran"
            return _with(end, Reason.SIGNALLED, words)
    if status is not None:
        return _with(end, Reason.EXITED, _words(exit_))
    if number is not None:
        return _with(end, Reason.SIGNALLED, _words(exit_))
    return _with(end, Reason.UNKNOWN, UNTOLD)


def completed(end: End, seen: Exit | None) -> End:
    """Return an unknown end completed with the exit that another watch of its process saw."""
    if end.reason is not Reason.UNKNOWN or not _words(seen):
        return end
    return explain(end, seen, None, 0, Circumstances())


def was_ended(exit_: Exit | None) -> bool:
    """Return True if a process may have been ended by systemd: by SIGTERM or SIGKILL."""
    if exit_ is None or exit_.status == 128 + signal.SIGTERM:
        return True
    return exit_.status is None and exit_.signal in (None, *_ENDED_BY_SYSTEMD)


def _words(exit_: Exit | None) -> str:
    """Return how a process ended in words; '' if unknown."""
    if exit_ is None or (exit_.status is None and exit_.signal is None):
        return ""
    if exit_.status is not None:
        return f"exit status {exit_.status}"
    try:
        name = signal.Signals(exit_.signal or 0).name
    except ValueError:
        name = f"signal {exit_.signal}"
    return f"killed by {name}"


def _with(end: End, reason: Reason, evidence: str) -> End:
    return dataclasses.replace(end, reason=reason, evidence=evidence)
