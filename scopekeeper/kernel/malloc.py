"""The allocator of glibc, in a process that lives long and has threads.

Each thread allocates in an arena of its own, up to eight for each processor, and an arena keeps
what was freed in it: the most that each thread ever needed adds up. Python's threads take turns
anyway, so one arena is as fast.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Options of mallopt(3)."""
_LARGE = 128 << 10
"""Bytes: glibc's own values to begin with; it raises them with what is freed, unless they are set.
"""


def keep_little() -> None:
    """Have freed memory go back to the kernel; call it before the first thread is started."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # another C library has none
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
