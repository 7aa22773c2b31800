"""Makes a scope around this process as a plain cgroup, without a manager."""

import errno
import fcntl
import posix

from scopekeeper.kernel.proc import make_cgroup, open_lock
from scopekeeper.launch import start_keeper
from scopekeeper.launch.member import GONE, NewMember, enter
from scopekeeper.scope import names
from scopekeeper.scope.placement import Place

_XATTR_CREATE = 1


def create(directory: str, member: NewMember, place: Place, warnings: list[str]) -> bool:
    """Make the scope and become its first member; return False if another launch was faster."""
    try:
        try:
            make_cgroup(directory)
        except FileExistsError:
            pass
        fd = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return False
    lock = -1
    try:
        lock = open_lock(fd)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # a stop was faster
        member.record_scope(directory, place, "", _XATTR_CREATE)
        if member.request.limits:
            from scopekeeper.launch.limits import limit_folder

            limit_folder(place.base, directory, member.request.limits, warnings)
        _leave_note(place)
        start_keeper.start(place.uid)
        return enter(directory, member, place)
    except OSError as error:
        if error.errno in (*GONE, errno.EEXIST):
            return False  # another launcher was faster
        _remove(directory)
        raise
    finally:
        if lock >= 0:
            posix.close(lock)
        posix.close(fd)


def _remove(directory: str) -> None:
    """Remove the scope of a launch that was refused, unless another launch is in it."""
    try:
        posix.rmdir(directory)
    except OSError:
        pass


def notes_folder(uid: int) -> str:
    """Return the folder in which a launch links to a folder with scopes, for the uid's keeper."""
    return "/run/scopekeeper/places" if uid == 0 else f"/run/user/{uid}/scopekeeper/places"


def _leave_note(place: Place) -> None:
    """Point the keeper to the folder; a keeper that starts later finds the scope by itself."""
    try:
        posix.symlink(place.base, f"{notes_folder(place.uid)}/{names.escape(place.base)}")
    except OSError:
        pass


def remove_empty(lock: int, directory: str) -> bool:
    """Remove a folder in which nothing lives, for a launch to make again; lock is its open lock."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for entry in posix.listdir(directory):
            if entry.startswith("m-") or entry == names.HOLD:
                posix.rmdir(f"{directory}/{entry}")
        posix.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EBUSY, errno.ENOTEMPTY, *GONE):
            raise
        return False  # another launch is entering
    return True
