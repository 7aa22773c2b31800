"""What is mounted where, as this process sees it (proc_pid_mountinfo(5))."""

import re

from scopekeeper.owned.claim import is_within


def points() -> list[str]:
    """Return every mount point, in the order in which they were mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [_plain(line.split(" ")[4]) for line in file]


def _plain(field: str) -> str:
    """Undo the octal escapes of space, tab, line feed and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def inside(path: str) -> list[str]:
    """Return the mount points that are path or below it."""
    return [point for point in points() if is_within(point, path)]


def above(path: str) -> str:
    """Return the mount point that a path is on."""
    return max((point for point in points() if is_within(path, point)), key=len, default="/")


def of_descriptor(fd: int) -> str:
    """Return the id of the mount that an open file is on: also tells bind mounts apart."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next((line.split()[1] for line in file if line.startswith("mnt_id:")), "")
