"""Chooses where new scopes go. On the hot path of ``run``: builtin modules only."""

from scopekeeper.kernel.proc import exists
from scopekeeper.scope.placement import Caller, Place, managed, place_of
from scopekeeper.systemd.units import answers


def find(caller: Caller, wanted: str = "auto", *, outlives: bool = False) -> Place:
    """Return the place for new scopes; raises UnavailableError, and UsageError if wanted is wrong.

    A nested launch stays in the plain cgroup of its launcher, and below its limits, unless that
    cgroup is a service's and the command must outlive the service. What a user's process in a
    service of the system's manager launches stays in that service if its cgroup is delegated: the
    user's manager cannot end a scope with it.
    """
    if wanted == "auto" and caller.scope_directory:
        enclosing = place_of(caller)
        if not enclosing.manager and not (outlives and enclosing.base.endswith(".service")):
            return enclosing
    if wanted == "auto" and not caller.is_main:
        if caller.uid == 0 and exists("/run/systemd/system"):  # sd_booted(3)
            return managed(caller, "system")
        is_users = outlives or not caller.system_service()
        if caller.uid and is_users and answers(caller.uid):
            return managed(caller, "user")
    from scopekeeper.scope import placement_options

    return placement_options.find(caller, wanted, outlives=outlives)
