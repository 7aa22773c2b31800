"""The options ``--require`` and ``--own``."""

import posix

from scopekeeper.errors import FAILED, UsageError
from scopekeeper.launch.program import encoded, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.owned.claim import Container
    from scopekeeper.owned.claim_at_launch import Handover

_ABSENT = (2, 20)
"""ENOENT and ENOTDIR."""


def require(paths: str) -> None:
    """Exit 125 if one of the paths, joined by NUL, does not exist; nothing is made before."""
    for path in paths.split("\0"):
        try:
            posix.stat(encoded(path))
        except OSError as error:
            reason = "is missing" if error.errno in _ABSENT else error.strerror
            say(f"required path {path} {reason}")
            posix._exit(FAILED)


def hand_over(options: dict[str, str], container: "Container | None" = None) -> "Handover":
    """Claim the paths of ``--own``, and a container, for this launch.

    Raises UsageError, RefusedError, StateError.
    """
    if "own_scope" in options and "own" not in options:
        raise UsageError("--own-scope says nothing without --own", "give --own PATH too")
    from scopekeeper.owned.claim_at_launch import Handover

    paths = options["own"].split("\0") if "own" in options else []
    return Handover(paths, whole_scope="own_scope" in options, container=container)
