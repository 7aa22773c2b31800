"""Whether this process runs in a container. For launches without systemd: builtin modules only."""

import posix

from scopekeeper.kernel.proc import cgroup_of, exists

MARKS = ("/run/systemd/container", "/.dockerenv", "/run/.containerenv")
"""Files that systemd-nspawn, Docker and Podman make in their containers; containerd makes none."""
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of include/linux/proc_ns.h."""


def in_container() -> bool:
    """Return whether this process runs in a container, by its marks or by its PID namespace."""
    if any(exists(mark) for mark in MARKS):
        return True
    try:
        return posix.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE
    except OSError:
        return False


def without_systemd() -> bool:
    """Return whether this is a container in which no systemd runs."""
    if exists("/run/systemd/system"):  # sd_booted(3)
        return False
    return not _has_hidden_systemd() and in_container()


def _has_hidden_systemd() -> bool:
    """Return whether our first process is a systemd whose /run this process does not see.

    So it is in a service with TemporaryFileSystem=. In a container that shares the machine's PID
    namespace, the first process has another root.
    """
    try:
        if not cgroup_of("1").endswith("/init.scope"):
            return False
        first, own = posix.stat("/proc/1/root"), posix.stat("/")
    except OSError:
        return True  # hidden by ProtectProc=, or not ours to look at
    return (first.st_dev, first.st_ino) == (own.st_dev, own.st_ino)


def shares_hierarchy(mount: str, path: str) -> bool:
    """Return whether the top of a cgroup2 mount belongs to the machine, and we are in a container.

    That is so without a cgroup namespace of the container's own (``--cgroupns=host``; containerd
    gives a privileged pod none). path is our own cgroup; systemd does not run here. What is made
    at the top would outlive the container, and ignore its limits and its pause.
    """
    if not path or path.startswith("/.."):
        return False  # our own cgroup is the top, or it is not below it
    if exists(f"{mount}/init.scope"):
        return not _has_hidden_systemd()
    return not exists(f"{mount}/cgroup.type") and in_container()  # only the first cgroup has none
