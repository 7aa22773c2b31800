"""Frees the beginning of a file, through ctypes: fallocate(2) with FALLOC_FL_PUNCH_HOLE.

ext4, XFS, Btrfs, F2FS, tmpfs and overlays of them can; the length of the file stays.
"""

import ctypes
import errno
import os

_KEEP_SIZE, _PUNCH_HOLE = 1, 2


def punch_hole(fd: int, end: int) -> bool:
    """Free the bytes before end; return False if the file system cannot. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, 0, end):
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True
