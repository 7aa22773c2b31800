"""Identify and remove the file or folder at a path, without following links or leaving its mount.

Other users may change the folders on the way meanwhile. So each component is opened relative to the
one before, none through a link, and only open descriptors are read and emptied. A user who can
write to one of these folders can only have removed what he could have moved there himself. Root,
removing below a user's folder, cannot be led out of it.

Removing a folder does not descend: it moves the contents of its subfolders up to its top, and
removes them there. So it needs two descriptors at any depth, and continues after it was killed at
any moment.
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
    """Something is mounted inside of the folder to remove."""


def open_parent(path: str) -> int:
    """Open the parent folder of a path; raises OSError (ENOTDIR at a link)."""
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
    """Return the status of a name in an open folder, None if it does not exist."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def identify(parent: int, name: bytes | str) -> Thing | None:
    """Return the identity of a name in an open folder, None if it does not exist."""
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
    """Rename a path to its claim's ``aside`` name, so that nobody begins to use it.

    Returns ``aside``; ``gone`` if it does not exist; ``changed`` if it is another file now, which
    stays. Raises OSError.
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
        if identify(parent, name) is None:  # somebody replaced it in that moment
            os.rename(claim.aside, name, src_dir_fd=parent, dst_dir_fd=parent)
        return "changed"
    finally:
        os.close(parent)


def finish(claim: Claim) -> None:
    """Remove a path that was set aside, durably; raises OSError, and can be called again."""
    try:
        parent = open_parent(claim.path)
    except FileNotFoundError:
        return  # its folder was set aside too, and is removed with it
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
        with contextlib.suppress(OSError):  # a folder with permission to search, not to read
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
        # moving a folder changes its "..", which needs write permission on itself
        looking = os.open(name, _LOOK | os.O_DIRECTORY, dir_fd=inner)
        try:
            _unprotect(looking)
        finally:
            os.close(looking)
        os.rename(name, to, src_dir_fd=inner, dst_dir_fd=top)


def _open_folder(parent: int, name: str, mount: str) -> int:
    """Open a folder to empty it; first give its owner the permission to."""
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
