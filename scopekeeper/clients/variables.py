"""Whether a variable of a client may name the session of a launch.

On the hot path of ``run``: builtin modules only.
"""

from scopekeeper.clients.table import VARIABLES
from scopekeeper.kernel.proc import exists

FILE = "clients.toml"


def may_name(options: dict[str, str], environment: dict[bytes, bytes], *, configured: bool) -> bool:
    """Return whether a client may name the session of a launch: nothing else does, and one can.

    configured: whether there is a folder that may have a user's table.
    """
    if "session" in options or environment.get(b"SCOPEKEEPER_SESSION"):
        return False
    return any(each in environment for each in VARIABLES) or (configured and has_file())


def has_file() -> bool:
    """Return whether a user has a table."""
    from scopekeeper.policy.files import folders

    return any(exists(f"{folder}/{FILE}") for folder in folders())
