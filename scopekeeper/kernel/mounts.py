"""Which mount a path is on, and which path lies below which."""

from scopekeeper.kernel import proc


def is_within(path: str, folder: str) -> bool:
    """Return whether an absolute path is folder or below it; '' is within nothing. Pure."""
    return bool(path) and (path == folder or path.startswith(folder.rstrip("/") + "/"))


def points() -> list[str]:
    """Return every mount point, in the order of mounting."""
    return [point for point, _ in proc.mounts()]


def inside(path: str) -> list[str]:
    """Return the mount points that are path or below it."""
    return [point for point in points() if is_within(point, path)]


def above(path: str) -> str:
    """Return the mount point that a path is on."""
    return max((point for point in points() if is_within(path, point)), key=len, default="/")


def of_descriptor(fd: int) -> str:
    """Return the id of the mount that an open file is on; bind mounts have ids of their own."""
    lines = proc.read(f"/proc/self/fdinfo/{fd}").splitlines()
    return next((line.split()[1] for line in lines if line.startswith("mnt_id:")), "")


def options_of(point: str) -> str:
    """Return the options of the uppermost mount at a point, those of its file system last.

    '' if nothing is mounted there. Source: proc_pid_mountinfo(5).
    """
    found = ""
    for line in proc.read("/proc/self/mountinfo").splitlines():
        mount, _, source = (part.split(" ") for part in line.partition(" - "))
        if mount[4].replace(r"\040", " ") == point:
            found = ",".join(dict.fromkeys(f"{mount[5]},{source[2]}".split(",")))
    return found
