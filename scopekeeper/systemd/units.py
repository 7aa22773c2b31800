"""Names of units, what a unit's cgroup path says about it, and its manager's files about it.

On the hot path of ``run``: builtin modules only.
"""

import posix
import time

from scopekeeper.kernel.proc import attribute, environment, exists, stat_of

KEEPER = "scopekeeper.service"
SLICE = "scopekeeper.slice"
SYSTEM_BUS = "/run/dbus/system_bus_socket"
"""Where the system's bus is. ``$DBUS_SYSTEM_BUS_ADDRESS`` does not count: ``sudo -E`` passes it on,
and root would ask a bus of the user."""
_TICKS = posix.sysconf("SC_CLK_TCK")


def epoch_of(mount: str, unit_path: str) -> str:
    """Return the InvocationID of the unit at a cgroup path; '' if it is inactive or unknown.

    The manager keeps a link for journald (since 239) from before the unit's first process until the
    unit is inactive. If the links are not visible, read the attribute ``user.invocation_id``, which
    the system's manager writes to the cgroup (since 251). The attribute stays with the cgroup,
    which outlives a unit that left processes behind (KillMode=process).
    """
    links = links_folder(unit_path)
    try:
        return posix.readlink(f"{links}/invocation:{unit_at(unit_path)}")
    except OSError:
        pass
    written = None
    try:
        if not exists(links):
            written = attribute(mount + unit_path, "user.invocation_id")
    except OSError:
        pass
    return written.decode("ascii", "replace") if written else ""


def precedes_life(pid: str, unit_path: str, epoch: str) -> bool:
    """Return whether a process in a unit's cgroup is surely left from an earlier life of the unit.

    It began before the manager made the link to this life's InvocationID (``epoch``), and was
    executed without it: a clock that was set back does not make it so. False where either is
    hidden.
    """
    try:
        if f"INVOCATION_ID={epoch}".encode() in environment(int(pid)).split(b"\0"):
            return False
        stat = stat_of(pid)
        link = f"{links_folder(unit_path)}/invocation:{unit_at(unit_path)}"
        made = posix.lstat(link).st_mtime
    except OSError:
        return False
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return stat is not None and booted + (stat.start_time + 1) / _TICKS < made


def links_folder(unit_path: str) -> str:
    """Return the folder in which a unit's manager keeps links for its active units."""
    uid = manager_uid(unit_path)
    return f"/run/user/{uid}/systemd/units" if uid else "/run/systemd/units"


def unit_at(unit_path: str) -> str:
    """Return the name of the unit at a cgroup path.

    systemd writes ``_`` before a name that could be a file of the cgroup, as memory.service.
    """
    return unit_path.rpartition("/")[2].removeprefix("_")


def manager_uid(path: str) -> str:
    """Return the uid whose manager has a cgroup path; '' for the system's manager."""
    return path.rpartition("/user@")[2].partition(".service/")[0] if "/user@" in path else ""


def is_main_process() -> bool:
    """Return whether systemd itself started this process (SYSTEMD_EXEC_PID=, since 248)."""
    return posix.environ.get(b"SYSTEMD_EXEC_PID") == str(posix.getpid()).encode()


def answers(uid: int) -> bool:
    """Return whether a user's manager has a socket to connect to."""
    return exists(f"/run/user/{uid}/systemd/private") or exists(f"/run/user/{uid}/bus")
