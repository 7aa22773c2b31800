"""Looks at what stands at a path, and removes it; never follows a link, never leaves a mount.

Nothing here goes by a path that somebody else could change on the way. Folders are opened one
component after the other, each relative to the one before and none through a link; what is then
looked at and emptied is what the descriptor holds, whatever is done to its names meanwhile. So
whoever may write to a folder on the way, or inside, can have removed what he could have moved
there: his own. Root removing below a user's folder is not led out of it.

A folder is emptied without going down: what its folders have in them is lifted to its top, and
they are removed. Two descriptors are enough for any depth, and a removal that was killed at any
moment goes on where it was.
"""

import contextlib
import errno
import fcntl
import os
import stat

from scopekeeper.kernel import mounts
from scopekeeper.owned.claim import Claim, Thing, raw

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_GET_GENERATION = 0x80087601
"""FS_IOC_GETVERSION, ioctl_iflags(2); ext4, XFS, btrfs have it."""
_FOLDER_BITS = 0o700


class LeftMountError(OSError):
    """Something is mounted inside of what is to be removed."""


def open_parent(path: str) -> int:
    """Open the folder that path is in; raises OSError (ENOTDIR at a link)."""
    fd = os.open("/", _LOOK | os.O_DIRECTORY)
    for part in raw(path).split(b"/")[1:-1]:
        try:
            inner = os.open(part, _LOOK | os.O_DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


def base_name(path: str) -> bytes:
    """Return the last component of a path."""
    return raw(path).rpartition(b"/")[2]


def stat_of(parent: int, name: bytes | str) -> os.stat_result | None:
    """Return what stands under a name in an open folder, None where there is nothing."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def identify(parent: int, name: bytes | str) -> Thing | None:
    """Return the identity of what stands under a name, None where there is nothing."""
    try:
        fd = os.open(name, _LOOK, dir_fd=parent)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(fd)
        generation = 0
        if stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode):
            generation = _generation(fd)
        return Thing(found.st_dev, found.st_ino, generation)
    finally:
        os.close(fd)


def _generation(looking: int) -> int:
    with contextlib.suppress(OSError):
        fd = os.open(f"/proc/self/fd/{looking}", _READ)
        try:
            return int.from_bytes(fcntl.ioctl(fd, _GET_GENERATION, bytes(8))[:4], "little")
        finally:
            os.close(fd)
    return 0


def set_aside(claim: Claim, *, same_boot: bool) -> str:
    """Take a path away from under its name, so that nobody comes to use it any more.

    Returns ``aside``; ``gone`` where there is nothing; ``changed`` where it is another thing now,
    which is left. Raises OSError.
    """
    name = base_name(claim.path)
    try:
        parent = open_parent(claim.path)
    except FileNotFoundError:
        return "gone"
    try:
        waiting = identify(parent, claim.aside)
        if waiting is not None and claim.thing.is_same(waiting, same_boot=same_boot):
            return "aside"
        found = identify(parent, name)
        if found is None:
            return "gone"
        if not claim.thing.is_same(found, same_boot=same_boot):
            return "changed"
        os.rename(name, claim.aside, src_dir_fd=parent, dst_dir_fd=parent)
        if identify(parent, claim.aside) == found:
            return "aside"
        if identify(parent, name) is None:  # somebody put another thing there in that moment
            os.rename(claim.aside, name, src_dir_fd=parent, dst_dir_fd=parent)
        return "changed"
    finally:
        os.close(parent)


def finish(claim: Claim) -> None:
    """Remove what was set aside, durably; raises OSError, and may then be called again."""
    try:
        parent = open_parent(claim.path)
    except FileNotFoundError:
        return  # what it was in has itself been set aside, and goes with it
    try:
        found = stat_of(parent, claim.aside)
        if found is None:
            return
        if found.st_ino != claim.thing.inode:
            raise OSError(errno.ESTALE, "another thing was put where it waits", claim.aside)
        if stat.S_ISDIR(found.st_mode):
            _remove_folder(parent, claim.aside, claim.thing.inode)
        else:
            os.unlink(claim.aside, dir_fd=parent)
        with contextlib.suppress(OSError):  # a folder that may be searched, not read
            _sync(parent)
    finally:
        os.close(parent)


def _remove_folder(parent: int, name: str, inode: int) -> None:
    mount = mounts.of_descriptor(parent)
    top = _open_folder(parent, name, mount)
    try:
        if os.fstat(top).st_ino != inode:
            raise OSError(errno.ESTALE, "another thing was put where it waits", name)
        lifted = f"{os.urandom(4).hex()}."
        number = 0
        while entries := os.listdir(top):
            for entry in entries:
                if not _is_folder(top, entry):
                    _unlink(top, entry)
                    continue
                inner = _open_folder(top, entry, mount)
                try:
                    for below in os.listdir(inner):
                        if _is_folder(inner, below):
                            number += 1
                            _lift(inner, below, top, f"{lifted}{number}")
                        else:
                            _unlink(inner, below)
                finally:
                    os.close(inner)
                os.rmdir(entry, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _lift(inner: int, name: str, top: int, to: str) -> None:
    try:
        os.rename(name, to, src_dir_fd=inner, dst_dir_fd=top)
    except PermissionError:
        # a folder's own permission is asked for too: it has to learn of its new parent
        looking = os.open(name, _LOOK | os.O_DIRECTORY, dir_fd=inner)
        try:
            _unprotect(looking)
        finally:
            os.close(looking)
        os.rename(name, to, src_dir_fd=inner, dst_dir_fd=top)


def _open_folder(parent: int, name: str, mount: str) -> int:
    """Open a folder to empty it; one that keeps its owner out is opened up first."""
    looking = os.open(name, _LOOK | os.O_DIRECTORY, dir_fd=parent)
    try:
        if mounts.of_descriptor(looking) != mount:
            raise LeftMountError(errno.EBUSY, "something is mounted in it")
        _unprotect(looking)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=looking)
    finally:
        os.close(looking)


def _unprotect(looking: int) -> None:
    found = os.fstat(looking)
    if found.st_mode & _FOLDER_BITS != _FOLDER_BITS and found.st_uid == os.geteuid():
        os.chmod(f"/proc/self/fd/{looking}", _FOLDER_BITS)


def _is_folder(parent: int, name: str) -> bool:
    found = stat_of(parent, name)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _unlink(parent: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


def _sync(looking: int) -> None:
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=looking)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
