"""How commands name an owner."""

from scopekeeper.kernel.proc import comm
from scopekeeper.scope.model import Liveness, OwnerState


def owner_title(state: OwnerState) -> str:
    """Return an owner as ``my-gateway.service`` or ``claude[257]``; ``-`` if there is none."""
    owner = state.owner
    if owner.unit or not owner.pid:
        return owner.label
    # an earlier version recorded no name; the number of an ended process may be another's by now
    name = owner.name or (comm(owner.pid) if state.liveness is Liveness.ALIVE else "")
    return f"{name}[{owner.pid}]" if name else owner.label
