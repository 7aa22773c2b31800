"""The state folder, which keeps data across reboots and is private to its user.

It is made with mode 0700 if missing; an existing folder is never changed. So if
``$SCOPEKEEPER_STATE`` names a folder that others can read, such as /var/tmp, a folder inside of it
is used.
"""

import os
import stat

from scopekeeper.errors import StateError
from scopekeeper.users import home_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pathlib

_MODE = 0o700
_OTHERS = 0o077
_OTHER = "set SCOPEKEEPER_STATE to a folder that only you can write to"
_HISTORY = "history.db"
"""Marks a folder as used by us before, whatever its mode is now."""


def directory() -> "pathlib.Path":
    """Return the state folder of this user, as ``path`` does."""
    from pathlib import Path  # slow, and a launch with a text gets by without

    return Path(path())


def make() -> "pathlib.Path":
    """Return the state folder, made as ``make_path`` does."""
    from pathlib import Path

    return Path(make_path())


def path() -> str:
    """Return the state folder of this user, which may not exist; changes nothing.

    It is /var/lib/scopekeeper for root, and for others scopekeeper in ``$XDG_STATE_HOME``, else in
    .local/state at home. ``$SCOPEKEEPER_STATE`` overrides it: the folder that it names, if that is
    missing, private or has a history in it; else scopekeeper-UID inside of that.

    Raises StateError if it belongs to another user or others can write to it, and could forge its
    content.
    """
    wanted = os.environ.get("SCOPEKEEPER_STATE", "")
    folder = _named(wanted) if wanted else _usual()
    found = _look(folder)
    if found is not None:
        problem = _problem(found)
        if problem:
            raise StateError(f"the state folder {folder} {problem}", _OTHER)
    return folder


def has(name: str) -> bool:
    """Return whether the state folder has something of this name, or cannot be read.

    Raises StateError.
    """
    try:
        os.lstat(f"{path()}/{name}")
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def make_path() -> str:
    """Return the state folder, made with mode 0700 if it was missing; raises StateError."""
    folder = path()
    if os.path.exists(folder):
        return folder
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        os.mkdir(folder, _MODE)
        os.chmod(folder, _MODE)  # whatever the umask
    except FileExistsError:
        return make_path()  # another process was faster, and may have made it differently
    except OSError as error:
        raise StateError(f"cannot make the state folder {folder}: {error.strerror}") from None
    return folder


def _named(wanted: str) -> str:
    if not wanted.startswith("/"):
        raise StateError(f"SCOPEKEEPER_STATE is {wanted!r}", "give the whole path")
    folder = wanted.rstrip("/") or "/"
    found = _look(folder)
    if found is None:
        return folder
    if found.st_uid not in (0, os.geteuid()):
        raise StateError(
            f"the folder {folder} (SCOPEKEEPER_STATE) belongs to uid {found.st_uid}", _OTHER
        )
    if found.st_uid == os.geteuid() and (
        not found.st_mode & _OTHERS or os.path.lexists(f"{folder}/{_HISTORY}")
    ):
        return folder
    inner = f"{folder}/scopekeeper-{os.geteuid()}"
    if os.path.islink(inner):
        raise StateError(f"the state folder {inner} is a symbolic link", _OTHER)
    return inner


def _usual() -> str:
    if os.geteuid() == 0:
        return "/var/lib/scopekeeper"
    base = os.environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):
        return f"{base.rstrip('/')}/scopekeeper"
    home = home_of(os.geteuid())
    if not home:
        raise StateError(f"uid {os.geteuid()} has no home folder", "set SCOPEKEEPER_STATE")
    return f"{home.rstrip('/')}/.local/state/scopekeeper"


def _look(folder: str) -> os.stat_result | None:
    """Return the status of a folder, None if it does not exist; raises StateError."""
    try:
        itself = os.lstat(folder)
        if stat.S_ISLNK(itself.st_mode) and itself.st_uid not in (0, os.geteuid()):
            raise StateError(f"the state folder {folder} is a link of uid {itself.st_uid}", _OTHER)
        return os.stat(folder)
    except FileNotFoundError:
        if os.path.islink(folder):
            raise StateError(f"the state folder {folder} is a link to nothing", _OTHER) from None
        return None
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error)
        raise StateError(f"the state folder {folder}: {words}", _OTHER) from None


def _problem(found: os.stat_result) -> str:
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory"
    if found.st_uid != os.geteuid():
        return f"belongs to uid {found.st_uid}"
    if found.st_mode & 0o022:
        return "can be written by others"
    return ""
