"""The terminal of a process."""

import contextlib
import os

from scopekeeper.kernel.proc import stat_of

_PTS = range(136, 144)
"""Major numbers of /dev/pts (Documentation/admin-guide/devices.txt)."""
_TTY, _SERIAL = 4, 64
"""Major number of virtual consoles; from this minor number on it has serial ports."""


def terminal_of(pid: int) -> str:
    """Return ``pts/3``, ``tty1`` or ``ttyS0``; '' if a process has none, or cannot be read."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        stat = stat_of(pid)
        return name_of(stat.terminal) if stat is not None and stat.terminal else ""
    return ""


def name_of(number: int) -> str:
    """Return the name of a terminal by its device number; '' if it is of another driver. Pure."""
    major, minor = os.major(number), os.minor(number)
    if major in _PTS:
        return f"pts/{(major - _PTS.start << 8) + minor}"
    if major != _TTY:
        return ""
    return f"tty{minor}" if minor < _SERIAL else f"ttyS{minor - _SERIAL}"
