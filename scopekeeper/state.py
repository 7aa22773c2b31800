"""Where what has to survive a reboot is kept."""

import os
import pathlib

from scopekeeper.errors import StateError

_MODE = 0o700


def directory() -> pathlib.Path:
    """Return the state folder of this user; creates nothing, raises StateError.

    ``$SCOPEKEEPER_STATE`` wins; else it is /var/lib/scopekeeper for root, and for others
    scopekeeper in ``$XDG_STATE_HOME``, else in ~/.local/state.
    """
    wanted = os.environ.get("SCOPEKEEPER_STATE", "")
    if wanted:
        if not wanted.startswith("/"):
            raise StateError(f"SCOPEKEEPER_STATE is {wanted!r}", "give the whole path")
        return pathlib.Path(wanted)
    if os.geteuid() == 0:
        return pathlib.Path("/var/lib/scopekeeper")
    base = os.environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):
        return pathlib.Path(base, "scopekeeper")
    return pathlib.Path(_home(), ".local/state/scopekeeper")


def make() -> pathlib.Path:
    """Return the state folder, made with mode 0700 where it was not there; raises StateError.

    One that belongs to another user is refused: what is read there would be that user's word.
    """
    folder = directory()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=_MODE, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise StateError(f"the state folder {folder} belongs to uid {found.st_uid}")
        if found.st_mode & 0o777 != _MODE:
            folder.chmod(_MODE)
    except OSError as error:
        raise StateError(f"cannot make the state folder {folder}: {error.strerror}") from None
    return folder


def _home() -> str:
    home = os.environ.get("HOME", "")
    if home.startswith("/"):
        return home
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise StateError(
            f"uid {os.geteuid()} has no home folder", "set SCOPEKEEPER_STATE"
        ) from None
