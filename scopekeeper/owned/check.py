"""Which paths may be owned; every refusal states the reason.

An owned path is removed later, without anybody watching. So it must belong to this user, contain
no link or ``..``, and be no folder that others work in.
"""

import contextlib
import os
import pwd
import stat

from scopekeeper import state
from scopekeeper.errors import RefusedError
from scopekeeper.kernel import mounts
from scopekeeper.kernel.mounts import is_within
from scopekeeper.owned import tree, users
from scopekeeper.owned.claim import Thing, raw


def plain(path: str) -> str:
    """Return a path without double slashes and single dots; raises RefusedError. Pure."""
    if not path.startswith("/"):
        raise _refused(path, "it is relative; give the whole path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _refused(path, "it has '..' in it; give the path without")
    if not parts:
        raise _refused(path, "it is the root of the file system")
    if len(parts) == 1:
        raise _refused(path, "it stands at the top of the file system; name something below it")
    return "/" + "/".join(parts)


def examine(path: str, *, is_new: bool = False) -> Thing:
    """Return the identity of the file at a plain path if it may be owned; raises RefusedError.

    is_new: this process has just made it, so that nobody can work in it yet.
    """
    protect(path)
    name = tree.base_name(path)
    try:
        parent = tree.open_parent(path)
    except NotADirectoryError:
        raise _link_or_file(path) from None
    except OSError as error:
        raise _refused(path, _words(error)) from None
    try:
        found = tree.stat_of(parent, name)
        if found is None:
            raise _refused(path, "there is no such file or folder")
        if stat.S_ISLNK(found.st_mode):
            raise _link_or_file(path)
        if stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode):
            raise _refused(path, "it is a device")
        if found.st_uid != os.geteuid():
            raise _refused(path, f"it belongs to uid {found.st_uid}, not to uid {os.geteuid()}")
        if not os.access(f"/proc/self/fd/{parent}", os.W_OK | os.X_OK):
            raise _refused(path, "its folder cannot be written, so it could not be removed")
        mounted = mounts.inside(path)
        if mounted:
            where = "it is a mount point" if mounted[0] == path else f"{mounted[0]} is mounted"
            raise _refused(path, where)
        may_be_used = stat.S_ISDIR(found.st_mode) and not is_new
        worker = users.worker_below(path) if may_be_used else ""
        if worker:
            raise _refused(path, f"it is above a folder in use: {worker}")
        thing = tree.identify(parent, name)
    except OSError as error:
        raise _refused(path, _words(error)) from None
    finally:
        os.close(parent)
    if thing is None:
        raise _refused(path, "there is no such file or folder")
    return Thing(thing.device, thing.inode, thing.generation, mounts.above(path))


def protect(path: str) -> None:
    """Refuse a plain path that is or contains a home folder, or overlaps our state folder.

    The homes of system users count as well, so /var and /usr are refused.
    """
    for home in _homes():
        if is_within(home, path):
            what = "it is" if home == path else f"below it is {home},"
            raise _refused(path, f"{what} a home folder")
    folder = os.path.realpath(state.directory())
    if is_within(folder, path) or is_within(path, folder):
        raise _refused(path, f"scopekeeper keeps its state in {folder}")


def _homes() -> list[str]:
    found = [os.environ.get("HOME", ""), *(entry.pw_dir for entry in pwd.getpwall())]
    with contextlib.suppress(KeyError):  # a directory service may not list its users
        found.append(pwd.getpwuid(os.geteuid()).pw_dir)
    return [os.path.realpath(home) for home in dict.fromkeys(found) if home.startswith("/")]


def _link_or_file(path: str) -> RefusedError:
    there = os.path.realpath(raw(path)).decode("utf-8", "surrogateescape")
    if there != path:
        return _refused(path, f"there is a symbolic link in it; give {there}")
    return _refused(path, "there is no such folder")


def _words(error: OSError) -> str:
    return str(error.strerror or error)


def _refused(path: str, reason: str) -> RefusedError:
    return RefusedError(f"{path!r} cannot be owned: {reason}")
