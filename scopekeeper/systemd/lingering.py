"""Whether a user's manager stays when nobody is logged in; systemd-logind decides by a file."""

import pwd
from pathlib import Path

_FOLDER = "/var/lib/systemd/linger"


def user_name(uid: int) -> str:
    """Return a user's name; the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def lingers(uid: int) -> bool:
    """Tell whether ``loginctl enable-linger`` was called for a user."""
    return Path(_FOLDER, user_name(uid)).exists()


def remedy(uid: int) -> str:
    """Return the command that has a user's manager stay."""
    return f"sudo loginctl enable-linger {user_name(uid)}"
