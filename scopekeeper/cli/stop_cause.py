"""The cause that ``stop`` records: a request, or the end of the service that calls it."""

import contextlib
import os

from scopekeeper.kernel.proc import cgroup_of
from scopekeeper.lifecycle import observe
from scopekeeper.lifecycle.unseen_ends import Life
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.reason import Cause, Reason
from scopekeeper.scope.selection import Selector
from scopekeeper.systemd import service_end
from scopekeeper.systemd.units import unit_at


def cause_of(selector: Selector, note: str) -> Cause:
    """Return why what is selected is stopped; note is the reason in the caller's words.

    A service whose ``ExecStopPost=`` stops what it owns has ended: that is the cause, however it is
    noticed first. Its environment says how it ended; that it is its ``ExecStopPost=`` shows in the
    cgroup and in the parent of this process.
    """
    asker = observe.caller()
    ended = _end_of_calling_service(selector.owner or "")
    if not ended:
        return Cause(Reason.STOPPED, note, asker)
    is_said = note == f"{selector.owner} has ended: {os.environ['SERVICE_RESULT']}"
    return Cause(Reason.OWNER_GONE, ended if is_said or not note else f"{ended}; {note}", asker)


def ended_life(cause: Cause, selector: Selector) -> dict[Life, str]:
    """Return the life of the service whose end is the cause, with the evidence; {} for another."""
    if cause.reason is not Reason.OWNER_GONE:
        return {}
    return {(selector.owner or "", os.environ.get("INVOCATION_ID", "")): cause.text}


def _end_of_calling_service(unit: str) -> str:
    """Return the evidence that this unit, which calls this program, has ended; '' if it has not."""
    ended = service_end.stated_to(os.environ, unit) if unit else ""
    with contextlib.suppress(OSError, LookupError):
        own = unit_at(Caller().unit_path())
        if ended and service_end.is_called_by(unit, own, cgroup_of(os.getppid())):
            return ended
    return ""
