"""Whether a user's manager stays after the last logout: systemd-logind looks for a file."""

import os
import pwd

_FOLDER = "/var/lib/systemd/linger"


def user_name(uid: int) -> str:
    """Return a user's name, or the uid if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def lingers(uid: int) -> bool:
    """Return whether ``loginctl enable-linger`` was called for a user."""
    return os.path.exists(f"{_FOLDER}/{user_name(uid)}")


def remedy(uid: int) -> str:
    """Return the command that makes a user's manager stay."""
    return f"sudo loginctl enable-linger {user_name(uid)}"
